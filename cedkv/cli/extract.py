"""Make a relation state from demonstrations and save it to a file."""

import argparse

from cedkv.cli.described import slots_table
from cedkv.cli.options import add_config_options, add_setting, check_writable, config_for_slots, positive
from cedkv.cli.show import ProgressLine, drain, kib, table
from cedkv.episodes import episode_from_config
from cedkv.events import Progress
from cedkv.lm import load_model
from cedkv.methods import METHODS, Extraction, iter_extract
from cedkv.methods.cached import extraction_cache, iter_cached_extract
from cedkv.state import PRECISIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.add_argument("--method", choices=METHODS, default="ced", help="how slots are made (default: ced)")
    add_setting(parser, "--slots", "phase3.slots", type=positive, metavar="S")
    parser.add_argument("--out", required=True, metavar="FILE", help="the state file, such as state.safetensors")
    parser.add_argument("--precision", choices=PRECISIONS, help="of the file (default: the precision the state has)")
    parser.add_argument("--no-cache", action="store_true", help="make the state anew and keep no copy of it")


def run(args: argparse.Namespace) -> int:
    check_writable(args.out)
    config = config_for_slots(args)
    progress = ProgressLine()
    progress.show(Progress("loading the model", 0, 1))
    lm = load_model(config.run.model.id, config.run.runtime.torch_dtype, config.run.runtime.device)
    progress.show(Progress("preparing the episode", 0, 1))
    episode = episode_from_config(lm, config)
    for event in episode.reading.events() if episode.reading else ():
        progress.show(event)
    wanted = (lm, episode, args.method, config.phase3.slots, config)
    events = iter_extract(*wanted) if args.no_cache else iter_cached_extract(extraction_cache(), *wanted)
    extraction = drain(events, progress)
    extraction.prefix.save(args.out, args.precision)
    print(summary(extraction, tokens=len(episode.tokens)))
    print(args.out)
    return 0


def summary(extraction: Extraction, tokens: int) -> str:
    """What was made of how much, and each slot's tokens."""
    prefix = extraction.prefix
    rows = [
        ["method", extraction.method],
        ["task", prefix.meta["task"]],
        ["model", prefix.meta["model"]],
        ["slots", f"{prefix.slots}, in place of {tokens} tokens"],
        ["size", f"{kib(prefix.nbytes)}, in place of {kib(prefix.meta['teacher_bytes'])}"],
    ]
    return "\n\n".join([table(rows), slots_table(prefix)])
