"""Find what limits a relation's slots, and say which option to try."""

import argparse
from pathlib import Path
from typing import Any

from cedkv.cli.options import add_config_options, check_writable, config_for_slots
from cedkv.cli.show import ProgressLine, drain, table
from cedkv.events import Progress
from cedkv.files import dump_json, write_whole

# Weights of the OFF loss that --train tries.
_LAMBDAS = (0.5, 1.5, 3.0, 6.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.add_argument(
        "--out", default="diagnosis", metavar="DIR", help="diagnosis.json appears in it (default: diagnosis)"
    )
    parser.add_argument(
        "--train", action="store_true", help=f"train ced with each of {len(_LAMBDAS)} weights of the OFF loss too"
    )


def run(args: argparse.Namespace) -> int:
    path = Path(args.out) / "diagnosis.json"
    check_writable(str(path))
    from cedkv.episodes import episode_from_config
    from cedkv.gate.diagnosis import Reach, iter_diagnosis
    from cedkv.lm import load_model
    from cedkv.methods import Workbench

    config, progress = config_for_slots(args), ProgressLine()
    progress.show(Progress("loading the model", 0, 1))
    lm = load_model(config.run.model.id, config.run.runtime.torch_dtype, config.run.runtime.device)
    episode = episode_from_config(lm, config)
    for event in episode.reading.events() if episode.reading else ():
        progress.show(event)
    reach = Reach(lambdas=_LAMBDAS if args.train else ())
    found = {"task": episode.task, "model": lm.describe()}
    found |= drain(iter_diagnosis(Workbench(lm, episode, config), reach), progress)
    write_whole(path, dump_json(found))
    print("\n\n".join([*curves(found), findings(found)]))
    print(path)
    return 0


def curves(found: dict[str, Any]) -> list[str]:
    """A table for each curve."""
    references = [{"in front": name.replace("_", " "), **point} for name, point in found["references"].items()]
    without = [{"without layers": f"{p['layers'][0]}-{p['layers'][-1]}", **p} for p in found["by_layer"]]
    roles = [{"without role": f"{p['role']} ({len(p['slots'])})", **p} for p in found["by_role"]]
    shown = {
        "in front": references, "slots": found["by_slots"], "weight": found["by_weight"],
        "lambda_off": found["by_lambda"], "without layers": without, "without role": roles,
    }  # fmt: skip
    return [_curve(axis, points) for axis, points in shown.items() if points]


def _curve(axis: str, points: list[dict[str, Any]]) -> str:
    more = {"effective_rank_values": "directions"} if "effective_rank_values" in points[0] else {}
    columns = {"agreement": "agreement", "kl": "KL to teacher", "off_mean": "OFF mean", "off_p99": "OFF p99", **more}
    rows = [[axis, *columns.values()]]
    rows += [[str(point[axis]), *(f"{point[name]:.3f}" for name in columns)] for point in points]
    return table(rows, right=range(1, len(columns) + 1))


def findings(found: dict[str, Any]) -> str:
    lines = [f"{row['name']}: {row['words']}\n  try: {row['option']}" for row in found["bottlenecks"]]
    return "\n".join(lines)
