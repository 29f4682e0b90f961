"""Judge views of documents: full context, retrieval, gists and others, on needles and themes or on files."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cedkv.cli.options import positive
from cedkv.cli.show import ProgressLine, drain, table
from cedkv.errors import ConfigError
from cedkv.files import dump_json, write_whole

_DEFAULT_VIEWS = ("base", "full", "gist", "blind", "select", "chunked")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", metavar="DIR", help="trained gists (default: those that ship)")
    parser.add_argument("--model", default="embedded", metavar="ID", help="the frozen model that answers")
    parser.add_argument("--questions", metavar="PATH", help="LongBench-style .jsonl rows, a file or a folder of them")
    parser.add_argument("--tokens", type=positive, nargs="+", default=[128, 256], help="lengths of made documents")
    parser.add_argument("--count", type=positive, default=4, help="made documents per length and depth")
    parser.add_argument("--depths", type=positive, default=3, help="depths of a needle, evenly spread")
    parser.add_argument("--themes", type=int, default=0, help="theme questions per length")
    parser.add_argument(
        "--views", nargs="+", default=_DEFAULT_VIEWS, help="among them retrieved, which needs cedkv[rag]"
    )
    parser.add_argument("--mask", metavar="FILE.svg", help="only draw who sees whom, for 8 + 4 + 4 tokens")
    parser.add_argument(
        "--control", choices=("gist", "full", "blind"), default="gist", help="of the mask that is drawn"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/documents.json", metavar="FILE", help="rows, tables and criteria")


def run(args: argparse.Namespace) -> int:
    """Exits 1 where one of the plan's criteria fails."""
    from cedkv.compressors.judging import accuracy_table, iter_judging, profile, success_criteria

    if args.mask:
        return _draw(args)
    desk = _desk(args)
    questions = _questions(args, desk.lm.encode)
    rows = drain(iter_judging(desk, questions, args.views), ProgressLine())
    one_of_each = {question.about.get("tokens"): question for question in reversed(questions)}
    profiled = profile(desk, list(one_of_each.values()), args.views)
    criteria = success_criteria(rows, profiled)
    found: dict[str, Any] = {
        "rows": rows,
        "grid": accuracy_table(rows, "view", "tokens", "depth"),
        "profile": profiled,
        "criteria": [row.as_row() for row in criteria],
        "model": desk.lm.describe(),
        "adapter": desk.reader.fingerprint if desk.reader else None,
    }
    write_whole(Path(args.out), dump_json(found))
    scores = [
        [row["kind"], str(row["tokens"]), row["view"], f"{row['score']:.2f}", str(row["count"])]
        for row in accuracy_table(rows, "kind", "tokens", "view")
    ]
    print(table([["kind", "tokens", "view", "score", "of"], *scores], right=(1, 3, 4)))
    for row in criteria:
        print(f"{'pass' if row.passed else 'FAIL'}  {row.name} {row.value:.3f} {row.op} {row.threshold:g}  {row.about}")
    print(args.out)
    return 0 if all(row.passed for row in criteria) else 1


def _draw(args: argparse.Namespace) -> int:
    from cedkv.compressors.gist.picture import mask_svg, row_regions

    write_whole(Path(args.mask), mask_svg(row_regions(8, 4, 4), args.control, sink=True))
    print(args.mask)
    return 0


def _desk(args: argparse.Namespace) -> Any:
    from cedkv.compressors.shipped import gist_adapter
    from cedkv.compressors.views import VIEWS, DocumentDesk
    from cedkv.lm import load_model
    from cedkv.lm.embed import load_embedder
    from cedkv.lm.gists import load_reader

    for view in args.views:
        if view not in VIEWS:
            raise ConfigError(f"view {view!r} is unknown; known are {', '.join(VIEWS)}")
    lm = load_model(args.model)
    reader = None
    if {"gist", "blind"} & set(args.views):
        reader = load_reader(lm, Path(args.adapter) if args.adapter else gist_adapter())
    embed = load_embedder() if "retrieved" in args.views else None
    return DocumentDesk(lm, reader, embed, slots=len(reader.ids) if reader else 25)


def _questions(args: argparse.Namespace, encode: Callable[[str], list[int]]) -> list[Any]:
    from cedkv.episodes.documents import Needles, make_needles, make_themes, read_questions

    if args.questions:
        return read_questions(args.questions)
    spread = [depth / max(args.depths - 1, 1) for depth in range(args.depths)]
    needles = [Needles(tokens=tokens, depth=depth) for tokens in args.tokens for depth in spread]
    made = [question for one in needles for question in make_needles(one, args.count, args.seed, "eval", encode)]
    return made + [q for tokens in args.tokens for q in make_themes(tokens, args.themes, args.seed, encode)]
