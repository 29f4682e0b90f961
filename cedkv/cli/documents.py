"""Judge views of documents: full context, retrieval, gists and others, on needles and themes or on files."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cedkv.cli.options import check_writable, not_negative, positive
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
    parser.add_argument(
        "--kinds", nargs="+", default=["passkey"], help="of needles: passkey distractors multi_key multi_value"
    )
    parser.add_argument("--themes", type=not_negative, default=0, help="theme questions per length")
    parser.add_argument(
        "--views",
        nargs="+",
        default=_DEFAULT_VIEWS,
        help="among them retrieved, which needs faiss-cpu, and ced, which trains for a minute on each document",
    )
    parser.add_argument(
        "--off-texts",
        type=not_negative,
        default=64,
        help="stress texts read behind a document of each length, beside yardsticks",
    )
    parser.add_argument(
        "--profile", type=positive, nargs="+", metavar="TOKENS", help="only profile the views, at these lengths"
    )
    parser.add_argument("--mask", metavar="FILE.svg", help="only draw who sees whom, for 8 + 4 + 4 tokens")
    parser.add_argument(
        "--control", choices=("gist", "full", "blind"), default="gist", help="of the mask that is drawn"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="runs/documents.json", metavar="FILE", help="rows, tables and criteria")


def run(args: argparse.Namespace) -> int:
    """Exits 1 where one of the plan's criteria fails."""
    if args.mask:
        return _draw(args)
    check_writable(args.out)
    desk = _desk(args)
    questions = [] if args.profile else _questions(args, desk.lm.encode)
    found = _judged(args, desk, questions)
    write_whole(Path(args.out), dump_json(found))
    for part in ("scores", "off", "profile"):
        if found[part]:
            print(_TABLES[part](found[part]))
    for row in found["criteria"]:
        verdict = "pass" if row["passed"] else "FAIL"
        print(f"{verdict}  {row['name']} {row['value']:.3f} {row['op']} {row['threshold']:.3g}  {row['about']}")
    print(args.out)
    return 0 if all(row["passed"] for row in found["criteria"]) else 1


def _judged(args: argparse.Namespace, desk: Any, questions: list[Any]) -> dict[str, Any]:
    """All figures, as they are written: answers, then other text and costs on one document of each length."""
    from cedkv.compressors.criteria import success_criteria
    from cedkv.compressors.judging import accuracy_table, iter_judging
    from cedkv.compressors.off_effect import iter_off_effect
    from cedkv.compressors.profile import iter_profile
    from cedkv.episodes.documents import Needles, make_one

    rows = drain(iter_judging(desk, questions, args.views), ProgressLine())
    one_of_each = list({question.about.get("tokens"): question for question in reversed(questions)}.values())
    off: dict[str, Any] = {}
    if args.off_texts and one_of_each:
        off = drain(iter_off_effect(desk, one_of_each, args.views, args.off_texts, args.seed), ProgressLine())
    for tokens in args.profile or ():
        one_of_each.append(make_one(Needles(tokens=tokens), f"{args.seed} profile", "eval", desk.lm.encode))
    profiled = drain(iter_profile(desk, one_of_each, args.views), ProgressLine())
    return {
        "rows": rows,
        "scores": accuracy_table(rows, "kind", "tokens", "view"),
        "grid": accuracy_table(rows, "kind", "view", "tokens", "depth"),
        "off": off,
        "profile": profiled,
        "criteria": [row.as_row() for row in success_criteria(rows, profiled, off)],
        "model": desk.lm.describe(),
        "adapter": desk.reader.fingerprint if desk.reader else None,
        "slots": desk.slots,
    }


def _score_table(scores: list[dict[str, Any]]) -> str:
    rows = [[row["kind"], str(row["tokens"]), row["view"], f"{row['score']:.2f}", str(row["count"])] for row in scores]
    return table([["kind", "tokens", "view", "score", "of"], *rows], right=(1, 3, 4))


def _off_table(off: dict[str, Any]) -> str:
    rows = [
        [view, f"{row['delta_mean']:.2f}", f"{row['delta_p99']:.2f}", str(row["count"])] for view, row in off.items()
    ]
    return table([["on other text", "Delta mean", "p99", "texts"], *rows], right=(1, 2, 3))


def _profile_table(profiled: list[dict[str, Any]]) -> str:
    head = ["tokens", "view", "KV KiB", "making s", "MiB", "first token ms", "tokens/s", "answering MiB"]
    rows = [
        [
            str(row["tokens"]),
            row["view"],
            f"{row['kv_bytes'] / 1024:,.0f}",
            f"{row['seconds_to_prefix']:.2f}",
            _or_none(row["making_mb"]),
            f"{row['ttft_ms']:,.0f}",
            f"{row['tokens_per_second']:.1f}",
            _or_none(row["answering_mb"]),
        ]
        for row in profiled
    ]
    return table([head, *rows], right=(0, 2, 3, 4, 5, 6, 7))


def _or_none(mb: float | None) -> str:
    return "-" if mb is None else f"{mb:,.1f}"


_TABLES: dict[str, Callable[[Any], str]] = {"scores": _score_table, "off": _off_table, "profile": _profile_table}


def _draw(args: argparse.Namespace) -> int:
    from cedkv.compressors.gist.picture import mask_svg, row_regions

    write_whole(Path(args.mask), mask_svg(row_regions(8, 4, 4), args.control, sink=True))
    print(args.mask)
    return 0


def _desk(args: argparse.Namespace) -> Any:
    from cedkv.compressors.shipped import gist_adapter
    from cedkv.compressors.views import VIEWS, DocumentDesk
    from cedkv.episodes.documents import NEEDLES
    from cedkv.lm import load_model
    from cedkv.lm.embed import load_embedder
    from cedkv.lm.gists import load_reader
    from cedkv.methods.document import train_on_document

    for what, names, known in (("view", args.views, VIEWS), ("kind of needles", args.kinds, NEEDLES)):
        for name in names:
            if name not in known:
                raise ConfigError(f"{what} {name!r} is unknown; known are {', '.join(known)}")
    lm = load_model(args.model)
    reader = None
    needs = {VIEWS[view].needs for view in args.views}
    if "gists" in needs:
        reader = load_reader(lm, Path(args.adapter) if args.adapter else gist_adapter())
    embed = load_embedder() if "passages" in needs else None
    return DocumentDesk(lm, reader, embed, len(reader.ids) if reader else 25, train_on_document)


def _questions(args: argparse.Namespace, encode: Callable[[str], list[int]]) -> list[Any]:
    from cedkv.episodes.documents import NEEDLES, make_needles, make_themes, read_questions

    if args.questions:
        return read_questions(args.questions)
    spread = [depth / max(args.depths - 1, 1) for depth in range(args.depths)]
    needles = [
        replace(NEEDLES[kind], tokens=tokens, depth=depth)
        for kind in args.kinds
        for tokens in args.tokens
        for depth in spread
    ]
    made = [question for one in needles for question in make_needles(one, args.count, args.seed, "eval", encode)]
    return made + [q for tokens in args.tokens for q in make_themes(tokens, args.themes, args.seed, encode)]
