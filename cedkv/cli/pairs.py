"""List, verify or export what trainings left in a pair log."""

import argparse
from pathlib import Path

from cedkv.cli.show import quoted, table
from cedkv.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    about = "ls: what is there; verify: read every byte, exit code 1 where something is wrong; export: all in one file"
    parser.add_argument("action", choices=("ls", "verify", "export"), help=about)
    parser.add_argument("folder", metavar="DIR", help="the folder that phase3.pair_log named")
    parser.add_argument("--out", metavar="FILE", help="with export: the safetensors file")


def run(args: argparse.Namespace) -> int:
    if args.action == "export" and not args.out:
        raise ConfigError("pairs export needs a file to write; add --out pairs.safetensors")
    from cedkv.methods.pairs import PairLog

    log = PairLog(Path(args.folder))
    if args.action == "verify":
        problems = list(log.problems())
        print("\n".join([*problems, f"{len(log.rows())} pairs, {len(problems)} problems"]))
        return int(bool(problems))
    if args.action == "export":
        print(f"{log.export(Path(args.out))} pairs")
        print(args.out)
        return 0
    rows = [["pair", "method", "task", "template", "model", "slots", "KL"]]
    for key, row in log.rows().items():
        told = [quoted(row[name]) for name in ("method", "task", "template", "model")]
        rows.append([key[:12], *told, str(row["slots"]), f"{row['metrics']['train_kl']:.3f}"])
    print(table(rows, right=(5, 6)))
    return 0
