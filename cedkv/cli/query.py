"""Ask a relation state: what base, teacher and student say to the same text."""

import argparse

from jaxtyping import Float
from torch import Tensor

from cedkv.cli.options import noted_settings, positive
from cedkv.cli.show import ProgressLine, quoted, table
from cedkv.config import Config, setting
from cedkv.episodes import Demonstration, Template, noted_template, read_demos, template_for, tokenize_demos
from cedkv.errors import DemoError
from cedkv.events import Progress
from cedkv.lm import EMBEDDED, LanguageModel, check_room, generate, load_model, log_probs, read_demo_kv, read_lead
from cedkv.state import KVPrefix

_TOP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state", required=True, metavar="FILE", help="the state file")
    parser.add_argument("--demos", metavar="FILE", help="the demonstrations, to show the teacher beside the student")
    parser.add_argument("--format", metavar="NAME", help=setting("episode.demos_format").description)
    parser.add_argument("--model", metavar="ID", help="the model; by default the one named in the state")
    parser.add_argument("--tokens", type=positive, default=16, metavar="N", help="longest continuation (default: 16)")
    parser.add_argument("--raw", action="store_true", help="use each TEXT as it is, without the state's template")
    parser.add_argument("texts", nargs="+", metavar="TEXT", help="an input of the relation")


def run(args: argparse.Namespace) -> int:
    prefix = KVPrefix.load(args.state)
    demos = _read_demos(args) if args.demos else None
    lm = _load(args, prefix)
    template = _template_of(prefix, lm)
    asked = None if args.raw else template
    texts = [asked.query(text) if asked else text for text in args.texts]
    views = {"base": read_lead(lm, tokenize_demos(lm, [], asked)) if asked else None}
    if demos:
        tokens = tokenize_demos(lm, demos, template or template_for(lm, Config().episode.template))
        check_room(lm, len(tokens), "the demonstrations", args.tokens)
        views["teacher"] = read_demo_kv(lm, tokens).as_prefix()
    views["student"] = KVPrefix.load(args.state, lm.fingerprint)
    print("\n\n".join(answers(lm, text, views, template, args.tokens) for text in texts))
    return 0


def _read_demos(args: argparse.Namespace) -> list[Demonstration]:
    reading = read_demos(args.demos, args.format)
    for event in reading.events():
        ProgressLine().show(event)
    return list(reading.pairs)


def _template_of(prefix: KVPrefix, lm: LanguageModel) -> Template | None:
    """The template as the state's own queries were cut from it."""
    return noted_template(lm, prefix.meta) if prefix.meta.get("template") else None


def _load(args: argparse.Namespace, prefix: KVPrefix) -> LanguageModel:
    """The model the user names, else the one that the state was made with."""
    noted = noted_settings(prefix)
    id = args.model or str(noted.get("run.model.id", EMBEDDED))
    dtype = str(noted.get("run.runtime.torch_dtype", "float32"))
    progress = ProgressLine()
    progress.show(Progress("loading the model", 0, 1))
    try:
        return load_model(id, dtype)
    finally:
        progress.close()


def answers(
    lm: LanguageModel, text: str, views: dict[str, KVPrefix | None], template: Template | None, new_tokens: int
) -> str:
    """One text under every view: its continuation and the most likely next tokens with their probabilities."""
    ids = lm.encode(text)
    if not ids:
        raise DemoError("TEXT is empty; give an input of the relation")
    rows = [["", "continuation", f"next token, top {_TOP}"]]
    for name, prefix in views.items():
        check_room(lm, len(ids) + (prefix.query_start if prefix else 0), f"text {quoted(text)}", new_tokens)
        (continuation,) = generate(lm, [ids], prefix, new_tokens, stop=template.stop if template else None)
        rows.append([name, quoted(continuation), _top_tokens(lm, log_probs(lm, [ids], prefix)[0])])
    return f"{quoted(text)}\n{table(rows)}"


def _top_tokens(lm: LanguageModel, row: Float[Tensor, " vocab"]) -> str:
    best = row.exp().topk(_TOP)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return "  ".join(f"{quoted(lm.decode([token]))} {probability:.3f}" for token, probability in pairs)
