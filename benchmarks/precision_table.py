"""What each precision of a state costs: file size, accuracy, KL to the teacher and effect on OFF texts.

    python benchmarks/precision_table.py --tasks present-past capitalize --out runs/precision_table.json

extracts one state per task, judges it in every precision, prints a Markdown table and writes the numbers as JSON.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cedkv.config import Config, load_config
from cedkv.episodes import episode_from_config
from cedkv.errors import CedKVError
from cedkv.evaluation import Judge
from cedkv.lm import LanguageModel, load_model
from cedkv.methods import METHODS, Workbench, extract
from cedkv.report import dump_json, library_versions, write_whole
from cedkv.state import PRECISIONS, KVPrefix

TASKS = ("present-past", "singular-plural", "capitalize")


def measure(lm: LanguageModel, task: str, method: str, slots: int, config: Config) -> list[dict]:
    """One task's rows, a precision each. Every state has been through its file."""
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    stress = episode.off_set("stress", config.phase2.eval.off_samples)
    judge = Judge(lm, episode, bench.teacher, {"stress": stress})
    state = extract(lm, episode, method, slots, config).prefix
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            path = Path(folder) / precision
            state.save(path, precision)
            read = KVPrefix.load(path, lm.fingerprint)
            on = judge.on_scores(judge.on_view(read))
            off = judge.off_scores(judge.delta_off(read, "stress"), "stress")
            row = {"task": task, "precision": precision, "file_bytes": path.stat().st_size}
            row |= {"kv_bytes": kv_bytes(path), "accuracy": on["accuracy"], "kl_to_teacher": on["kl_to_teacher"]}
            rows.append({**row, "off_delta_p99": off["delta_p99"], "teacher_accuracy": judge.teacher_on.accuracy})
    return rows


def kv_bytes(path: Path) -> int:
    """Bytes of keys and values in the file, scales counted."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return sum(file.get_tensor(name).nbytes for name in file.keys() if name.startswith(("keys", "values")))  # noqa: SIM118


def markdown(rows: list[dict]) -> str:
    lines = ["| task | precision | KV bytes | file bytes | accuracy | KL to teacher | OFF p99 |"]
    lines.append("| --- | --- |" + " ---: |" * 5)
    for row in rows:
        sizes = f"{row['kv_bytes']:,} | {row['file_bytes']:,}"
        scores = f"{row['accuracy']:.3f} | {row['kl_to_teacher']:.4f} | {row['off_delta_p99']:.3f}"
        lines.append(f"| {row['task']} | {row['precision']} | {sizes} | {scores} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=TASKS, metavar="NAME")
    parser.add_argument("--method", choices=METHODS, default="ced")
    parser.add_argument("--slots", type=int, default=8, metavar="S")
    parser.add_argument("--model", default="embedded", metavar="ID")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="any other setting")
    parser.add_argument("--out", type=Path, default=Path("runs/precision_table.json"), metavar="FILE")
    args = parser.parse_args()
    lm = load_model(args.model)
    rows: list[dict] = []
    for task in args.tasks:
        config = load_config(None, [*args.set, f"episode.task={task}"])
        rows += measure(lm, task, args.method, args.slots, config)
        print(f"{task} done", file=sys.stderr)
        model = {"id": lm.id, "fingerprint": lm.fingerprint}
        result = {"model": model, "method": args.method, "slots": args.slots, "settings": args.set, "rows": rows}
        write_whole(args.out, dump_json({**result, "versions": library_versions()}))
    print(markdown(rows))


if __name__ == "__main__":
    try:
        main()
    except CedKVError as error:
        sys.exit(f"precision_table: {error}")
