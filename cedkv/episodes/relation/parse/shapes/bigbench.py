"""BIG-bench's examples with `target_scores`: the option with the highest score is the output."""

from typing import Any

from cedkv.episodes.relation.parse.reading import Found, Outcome, Refusal, Strength


def read(items: list[dict[str, Any]]) -> Outcome:
    if not items or not all(
        isinstance(item.get("input"), str) and isinstance(item.get("target_scores"), dict) for item in items
    ):
        return None
    pairs = []
    for number, item in enumerate(items, start=1):
        try:
            scores = {option: float(score) for option, score in item["target_scores"].items()}
        except (TypeError, ValueError):
            scores = {}
        best = [option for option, score in scores.items() if score == max(scores.values())]
        if len(best) != 1:
            return Refusal(
                f"demonstration {number} has not one option with the highest of its target_scores", Strength.SURE
            )
        pairs.append((number, item["input"].strip(), best[0].strip()))
    warning = "the other options of target_scores are left out"
    return Found(pairs, Strength.SURE, ", output from 'target_scores'", warnings=(warning,))
