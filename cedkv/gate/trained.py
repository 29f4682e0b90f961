"""What the phase-3 report says about a training: losses, lambda, top-k, roles, and how far proxies tell the truth."""

from collections.abc import Sequence
from typing import Any

from cedkv.metrics import pearson
from cedkv.report import TrainingBlock

# Which proxy should move with which real metric.
_PROXIES = (
    ("loss_on", "eval_kl"),
    ("loss_on", "eval_accuracy"),
    ("loss_on", "train_kl"),
    ("loss_off", "stress_p99"),
)


def describe_training(training: dict[str, Any]) -> TrainingBlock:
    """The report's entries for one trained method, from the training artifact it left."""
    steps, ticks = training["steps"], training["ticks"]
    last = steps[-1] if steps else {}
    return {
        "phase3_loss_on": last.get("loss_on"),
        "phase3_loss_off": last.get("loss_off"),
        "phase3_loss_str": last.get("loss_str"),
        "steps": len(steps),
        "stopped": training["stopped"],
        "best_step": training["best_step"],
        "seconds_per_step": sum(step["seconds"] for step in steps) / max(len(steps), 1),
        "lambda_off_trace": [row["lambda_off"] for row in training["lambda_off"]],
        "topk_trace": [step["top_k"] for step in steps if step["top_k"] is not None],
        "role_mass_trace": [{"step": tick["step"], **tick["role_mass"]} for tick in ticks],
        "correlations": proxy_correlations(steps, ticks),
    }


def proxy_correlations(steps: Sequence[dict[str, Any]], ticks: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Pearson correlation over ticks of each proxy, averaged since the tick before, with its real metric.

    None where a metric was not measured, or is too short or constant.
    """
    correlations: dict[str, float | None] = {}
    for proxy, metric in _PROXIES:
        pairs, start = [], 0
        for tick in ticks:
            window = [step[proxy] for step in steps if start <= step["step"] <= tick["step"]]
            start = tick["step"] + 1
            if window and tick[metric] is not None:
                pairs.append((sum(window) / len(window), tick[metric]))
        value = pearson([x for x, _ in pairs], [y for _, y in pairs])
        correlations[f"{proxy}~{metric}"] = None if value != value else value
    return correlations


def constraint_warnings(training: dict[str, Any]) -> list[dict[str, float]]:
    """Ticks at which the OFF constraint was violated, with their p99 on stress texts; they warn, the gate decides."""
    counted = {tick["step"]: tick["stress_p99"] for tick in training["ticks"]}
    return [{**row, "stress_p99": counted[row["step"]]} for row in training["lambda_off"] if row["violation"] > 0]
