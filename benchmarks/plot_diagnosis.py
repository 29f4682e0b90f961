"""A plot (SVG) from the figures of `python -m cedkv diagnose`.

    python benchmarks/plot_diagnosis.py diagnosis/diagnosis.json --out diagnosis/diagnosis.svg

draws how near the slots are to the teacher and how loud they are, over their number, their weight and the layers they
are kept out of, beside the demonstrations and neutral text.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.plot_bench import Figures, Panel, drawing
from cedkv.files import write_whole

# References by the names of their lines.
_BESIDE = {"demonstrations": "teacher", "a paragraph": "neutral_paragraph", "a line break": "neutral_token"}


def panels(found: Figures) -> list[Panel]:
    bands = [{"layer": point["layers"][0], **point} for point in found["by_layer"]]
    weights, size = "weight: 0 as one token, 1 as all", found["slots"]
    return [
        _panel(found, "First token the teacher's, share of queries", "slots", found["by_slots"], "slots", "agreement"),
        _panel(found, "KL to the teacher, nats", "slots", found["by_slots"], "slots", "kl"),
        _panel(found, f"KL to the teacher of {size} slots, nats", weights, found["by_weight"], "weight", "kl"),
        _panel(found, f"OFF p99 of {size} slots, nats", weights, found["by_weight"], "weight", "off_p99"),
        _panel(found, "KL without a band of layers, nats", "its first layer", bands, "layer", "kl"),
        _panel(found, "OFF p99 without a band of layers, nats", "its first layer", bands, "layer", "off_p99"),
    ]


def _panel(found: Figures, title: str, x_label: str, points: Sequence[dict[str, Any]], x: str, figure: str) -> Panel:
    """One curve; where it is about other text, with what else might stand in front."""
    places = [point[x] for point in points]
    lines = {"slots": [(point[x], point[figure]) for point in points]}
    if figure == "off_p99":
        beside = {name: found["references"][key][figure] for name, key in _BESIDE.items()}
        lines |= {name: [(place, value) for place in (places[0], places[-1])] for name, value in beside.items()}
    return Panel(title, x_label, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("figures", type=Path, metavar="DIAGNOSIS.JSON")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the plot (default: beside the figures)")
    args = parser.parse_args()
    found = json.loads(args.figures.read_text(encoding="utf-8"))
    out = args.out or args.figures.with_suffix(".svg")
    write_whole(out, drawing(panels(found)))
    for row in found["bottlenecks"]:
        print(f"{row['name']}: {row['words']} Try: {row['option']}")
    print(out)


if __name__ == "__main__":
    main()
