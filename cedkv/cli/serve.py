"""Write a state for another engine: vLLM, llama.cpp, or plain transformers with PEFT."""

import argparse

from cedkv.cli.options import noted_settings
from cedkv.cli.show import ProgressLine
from cedkv.events import Progress
from cedkv.lm import EMBEDDED, load_model
from cedkv.serve import EXPORTS, export_state
from cedkv.state import KVPrefix


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("export",), help="export: write the state in the form that an engine reads")
    parser.add_argument("--to", required=True, choices=tuple(EXPORTS), help="the engine")
    parser.add_argument("--state", required=True, metavar="FILE", help="the state file; its name becomes the state's")
    parser.add_argument("--out", required=True, metavar="DIR", help="the folder; one for all states of a vLLM server")
    parser.add_argument("--model", metavar="ID", help="the model; by default the one named in the state")


def run(args: argparse.Namespace) -> int:
    prefix = KVPrefix.load(args.state)
    id = args.model or str(noted_settings(prefix).get("run.model.id", EMBEDDED))
    progress = ProgressLine()
    progress.show(Progress("loading the model", 0, 1))
    try:
        lm = load_model(id, device="cpu")
    finally:
        progress.close()
    for path in export_state(args.to, args.state, args.out, lm, id):
        print(path)
    return 0
