"""What weighting tokens buys: next-token and multi-token training under every scorer, on texts that ship.

    python benchmarks/token_weighting.py --out runs/token_weighting

trains {ntp, mtp} x {uniform, rho1, critic, both, shuffled, random-matched} with 3 seeds on the embedded model and
judges each on the same held-out texts. A finished training is a row of `rows.jsonl`; the same command goes on where it
was interrupted, and prints the table of what there is (written beside it as `table.md`, with a plot, `table.svg`). Rows
are found again by settings, model, and the code of the rooms that train.
"""

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.tables import markdown_table, run
from cedkv.config import TrainingConfig, load_settings
from cedkv.files import write_whole
from cedkv.ledger import Ledger, Row
from cedkv.lm import LanguageModel, load_model
from cedkv.lm.heads import MTPWrapper
from cedkv.optim.checkpoint import Checkpoint
from cedkv.optim.sinks import fed, open_sinks
from cedkv.wmtp.lesson import Readings
from cedkv.wmtp.metrics import Judged, judge
from cedkv.wmtp.stages import Trained, held_out_texts, read_texts, train_weighted

ROOT = Path(__file__).resolve().parents[1]
# Rooms whose code decides what a row says.
ROOMS = ["cedkv/wmtp", "cedkv/optim/weights", "cedkv/lm/heads.py", "cedkv/lm/adapters.py", "cedkv/lm/finetune.py"]
SCORERS = {
    "uniform": "uniform",
    "rho1": "rho1-excess-v1",
    "critic": "critic-delta-v1",
    "both": "rho1-critic",
    "shuffled": "shuffled",
    "random-matched": "random-matched",
}
ALGORITHMS = ("ntp", "mtp")
RESAMPLES = 2000


def arms(seeds: Sequence[int]) -> Iterator[tuple[int, str, str]]:
    """Seed by seed, so that what is there after an interruption can be compared."""
    for seed in seeds:
        for scorer in SCORERS:
            for algo in ALGORITHMS:
                yield seed, algo, scorer


def config_of(base: TrainingConfig, seed: int, algo: str, scorer: str) -> TrainingConfig:
    weights = base.train.weights.model_copy(update={"scorer": SCORERS[scorer]})
    train = base.train.model_copy(update={"algo": algo, "weights": weights, "tick_every": base.train.steps})
    return base.model_copy(update={"run": base.run.model_copy(update={"seed": seed}), "train": train})


def key_of(lm: LanguageModel, config: TrainingConfig) -> str:
    code = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")) if (ROOT / room).is_dir() else [ROOT / room]:
            code.update(path.read_bytes())
    train = config.train.model_dump(mode="json", exclude={"sinks"})
    content = {"train": train, "seed": config.run.seed, "model": lm.fingerprint}
    return hashlib.sha256(json.dumps([code.hexdigest(), content], sort_keys=True).encode()).hexdigest()[:40]


def finish(events: Iterator[Any], tell=lambda event: None) -> Any:
    """Let a stage run to its end and give what it returns."""
    while True:
        try:
            tell(next(events))
        except StopIteration as end:
            return end.value


def measure(lm: LanguageModel, config: TrainingConfig, readings: Readings, folder: Path, key: str) -> Row:
    """Train one arm; its figures go to the sinks as it does."""
    checkpoint = Checkpoint(folder / f"{key[:12]}.safetensors", key, config.train.checkpoint_every)
    started, sinks = time.perf_counter(), open_sinks(config.train.sinks, folder)
    last: dict[str, float] = {}
    result: list[Trained] = []

    def events() -> Iterator[Any]:
        result.append((yield from train_weighted(lm, config, readings, folder, checkpoint)))

    for event in fed(events(), sinks):
        last = getattr(event, "terms", last)
    checkpoint.path.unlink()
    return {**row_of(result[0].judged), "last_step": last, "seconds": time.perf_counter() - started}


def row_of(judged: Judged) -> Row:
    texts = {"kinds": judged.kinds, "wrong": judged.wrong, "important": judged.important}
    return {**texts, "figures": judged.figures()}


def untrained(lm: LanguageModel, config: TrainingConfig) -> Row:
    """The model as it comes."""
    return row_of(judge(MTPWrapper(lm.model, 1), *held_out_texts(lm, config.train)))


def accuracy(rows: Sequence[Row], texts: Sequence[int]) -> float:
    """Mean over seeds, on the chosen texts."""
    return sum(row["wrong"][text] == 0 for row in rows for text in texts) / (len(rows) * len(texts))


def error(rows: Sequence[Row], texts: Sequence[int]) -> float:
    wrong = sum(row["wrong"][text] for row in rows for text in texts)
    return wrong / sum(row["important"][text] for row in rows for text in texts)


def interval(figure, seeds: Sequence[int], texts: int) -> tuple[float, float, float]:
    """A figure over all seeds and texts, and its 95 % interval: seeds and texts drawn again (percentile bootstrap).

    figure : of chosen seeds and chosen texts.
    """
    draw = random.Random(0)
    found = sorted(
        figure(draw.choices(seeds, k=len(seeds)), draw.choices(range(texts), k=texts)) for _ in range(RESAMPLES)
    )
    return figure(list(seeds), list(range(texts))), found[int(0.025 * RESAMPLES)], found[int(0.975 * RESAMPLES)]


Cells = dict[tuple[str, str], dict[int, Row]]


def arm_figure(cells: Cells, arm: tuple[str, str], measure_of):
    return lambda seeds, texts: measure_of([cells[arm][seed] for seed in seeds], texts)


def shown(values: tuple[float, float, float]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*values)


def table(cells: Cells, texts: int) -> str:
    rows = []
    for (algo, scorer), found in cells.items():
        seeds = sorted(found)
        figures = [interval(arm_figure(cells, (algo, scorer), of), seeds, texts) for of in (accuracy, error)]
        rows.append([algo, scorer, len(seeds), *map(shown, figures)])
    return markdown_table(["training", "weights", "seeds", "accuracy", "important-token error"], rows, words=2)


def gates(cells: Cells, texts: int) -> str:
    """The plan's three gates, of what there is: each a figure with its interval and whether the figure meets it."""
    plain, ahead, combined, alone = ("ntp", "uniform"), ("mtp", "uniform"), ("mtp", "both"), ("ntp", "both")
    needed = [plain, ahead, combined, alone]
    seeds = sorted(set.intersection(*(set(cells.get(arm, {})) for arm in needed)))
    if not seeds:
        return "The gates need ntp and mtp, each with uniform weights and with both."

    def of(arm, measure_of):
        return arm_figure(cells, arm, measure_of)

    gain = interval(lambda s, t: of(combined, accuracy)(s, t) - of(plain, accuracy)(s, t), seeds, texts)
    ratio = interval(lambda s, t: of(combined, error)(s, t) / max(of(plain, error)(s, t), 1e-9), seeds, texts)
    more = interval(
        lambda s, t: (
            of(combined, accuracy)(s, t)
            + of(plain, accuracy)(s, t)
            - of(ahead, accuracy)(s, t)
            - of(alone, accuracy)(s, t)
        ),
        seeds,
        texts,
    )
    rows = [
        ["mtp both is 5 points more accurate than ntp uniform", shown(gain), gain[0] >= 0.05],
        ["its important-token error is below 0.8 of that of ntp uniform", shown(ratio), ratio[0] < 0.8],
        ["it gains more than mtp uniform and ntp both gain together", shown(more), more[0] > 0],
    ]
    return markdown_table(["gate", "measured", "met"], rows, words=1)


def plot(cells: Cells, texts: int) -> str:
    """Accuracy of every arm with its interval, as SVG that reads in light and dark."""
    height, left, width = 22, 150, 320
    marks = []
    for place, (algo, scorer) in enumerate(cells):
        value, low, high = interval(arm_figure(cells, (algo, scorer), accuracy), sorted(cells[algo, scorer]), texts)
        y = 20 + place * height
        x = [left + width * share for share in (low, value, high)]
        marks.append(
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{algo} {scorer}</text>'
            f'<line x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="{y}" y2="{y}" stroke="#7d8590"/>'
            f'<circle cx="{x[1]:.1f}" cy="{y}" r="4" fill="#4c8dd6"/>'
        )
    bottom = 20 + len(cells) * height
    ticks = "".join(
        f'<text x="{left + width * share}" y="{bottom + 12}" text-anchor="middle">{share}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 30}" height="{bottom + 24}" '
        f'font-family="sans-serif" font-size="12" fill="#7d8590">{"".join(marks)}{ticks}</svg>\n'
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/token_weighting"), metavar="DIR")
    parser.add_argument("--config", metavar="FILE", help="settings that all trainings share")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", dest="overrides")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--show", action="store_true", help="train nothing; print what there is")
    args = parser.parse_args(argv)
    base = load_settings(TrainingConfig, args.config, args.overrides)
    runtime = base.run.runtime
    ledger, lm = Ledger(args.out / "rows.jsonl"), load_model(base.run.model.id, runtime.torch_dtype, runtime.device)
    if not args.show:
        measure_all(lm, base, args.seeds, args.out, ledger)
    cells = read_cells(lm, base, args.seeds, ledger)
    texts = base.train.texts.held_out
    text = f"{table(cells, texts)}\n\n{gates(cells, texts)}\n"
    write_whole(args.out / "table.md", text)
    write_whole(args.out / "table.svg", plot(cells, texts))
    print(text)


def measure_all(lm: LanguageModel, base: TrainingConfig, seeds: int, folder: Path, ledger: Ledger) -> None:
    """Measure every row that is not there yet."""
    readings, done = None, ledger.rows()
    before = key_of(lm, base)
    if before not in done:
        ledger.put(before, untrained(lm, base))
    for seed, algo, scorer in arms(range(seeds)):
        config = config_of(base, seed, algo, scorer)
        key = key_of(lm, config)
        if key in done:
            continue
        readings = readings or finish(read_texts(lm, config.train, frozenset({"reference", "values"})))
        row = measure(lm, config, readings, folder / f"{algo}-{scorer}-{seed}", key)
        ledger.put(key, {"seed": seed, "algo": algo, "scorer": scorer, **row})
        print(seed, algo, scorer, row["figures"], f"{row['seconds']:.0f} s", flush=True)


def read_cells(lm: LanguageModel, base: TrainingConfig, seeds: int, ledger: Ledger) -> Cells:
    """The rows there are, by training and weights, then by seed."""
    rows, cells = ledger.rows(), {}
    keys = {(0, "none", "untrained"): key_of(lm, base)}
    keys |= {arm: key_of(lm, config_of(base, *arm)) for arm in arms(range(seeds))}
    for (seed, algo, scorer), key in keys.items():
        if key in rows:
            cells.setdefault((algo, scorer), {})[seed] = rows[key]
    return cells


if __name__ == "__main__":
    sys.exit(run(main))
