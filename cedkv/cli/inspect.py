"""Show what a state file holds: slots, their tokens and weights, size, model, method. Loads no model."""

import argparse

from cedkv.cli.options import positive
from cedkv.files import check_state_opens


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("state", metavar="STATE", help="a state file, such as state.safetensors")
    parser.add_argument("--top", type=positive, default=4, metavar="K", help="tokens listed per slot (default: 4)")


def run(args: argparse.Namespace) -> int:
    check_state_opens(args.state)  # before torch is imported
    from cedkv.cli.described import facts_table, settings_table, slots_table
    from cedkv.state import KVPrefix

    prefix = KVPrefix.load(args.state)
    shown = (facts_table(prefix, args.state), slots_table(prefix, args.top), settings_table(prefix))
    print("\n\n".join(part for part in shown if part))
    return 0
