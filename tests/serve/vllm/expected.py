"""States for vLLM and what the project's own student says behind each, written by the project's environment.

    python -m tests.serve.vllm.expected FOLDER

`check_serving.py` compares with it in vLLM's environment; `benchmarks/serve_vllm.py` asks the same.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from cedkv.episodes import Demonstration, get_template, tokenize_demos
from cedkv.lm import EMBEDDED, LanguageModel, generate, load_model, log_probs, read_demo_kv
from cedkv.lm.find import find_model
from cedkv.serve import export_state
from cedkv.state import KVPrefix, slot_layout

ROOT = Path(__file__).resolve().parents[3]
(EXAMPLES,) = (ROOT / "components/example_run").glob("*/artifacts")
TEMPLATE = "Q: {input}\nA: {output}\n\n"
PAST = ["eat ate", "talk talked", "bake baked", "sing sang", "open opened", "run ran", "call called", "write wrote"]
PLURAL = ["cat cats", "box boxes", "city cities", "man men", "leaf leaves", "dog dogs", "fox foxes", "baby babies"]
QUERIES = ["Q: jump\nA:", "Q: carry\nA:", "Q: think\nA:", "Once upon a time"]
NEW_TOKENS = 12


def states(lm: LanguageModel) -> Iterator[tuple[str, KVPrefix]]:
    """Trained and copied states; with blocks of 32 tokens, some end before, at and behind a block's border."""
    for name in ("ced", "select"):
        yield name, KVPrefix.load(EXAMPLES / f"{name}.safetensors", lm.fingerprint)
    past, plural = block(lm, PAST), block(lm, PLURAL)
    yield "past", past
    yield "plural", plural
    for slots in (1, 26, 31, 32, 33):
        yield f"first-{slots}", first(past, slots)
    count = past.slots
    positions, start = slot_layout(12, count, "absolute")
    yield "absolute", replace(first(plural, 12), positions=positions, query_start=start)
    spread = replace(first(past, 20), positions=torch.arange(20) * 3 + 1, query_start=90)
    yield "gaps-and-null", spread.without([3, 19])


def block(lm: LanguageModel, pairs: list[str]) -> KVPrefix:
    demos = [Demonstration(*pair.split()) for pair in pairs]
    return read_demo_kv(lm, tokenize_demos(lm, demos, get_template(TEMPLATE))).as_prefix()


def first(prefix: KVPrefix, slots: int) -> KVPrefix:
    """The first slots of a block, with the query right behind them."""
    return replace(
        prefix,
        keys=prefix.keys[:, :, :slots],
        values=prefix.values[:, :, :slots],
        positions=prefix.positions[:slots],
        active=prefix.active[:, :slots],
        query_start=slots,
        mixture=None,
    )


def cases_of(lm: LanguageModel, name: str | None, prefix: KVPrefix | None) -> list[dict]:
    """What a view says after each text: whole greedy continuation, and the five likeliest first tokens."""
    queries = [lm.encode(text) for text in QUERIES]
    texts = generate(lm, queries, prefix, NEW_TOKENS)
    tops = [row.topk(5) for row in log_probs(lm, queries, prefix)]
    return [
        {
            "state": name,
            "query": ids,
            "text": text,
            "top": dict(zip(map(str, top.indices.tolist()), top.values.tolist(), strict=True)),
        }
        for ids, text, top in zip(queries, texts, tops, strict=True)
    ]


@torch.no_grad()
def main(folder: Path) -> None:
    lm = load_model(device="cpu")
    made, served = folder / "made", folder / "states"
    cases = cases_of(lm, None, None)
    for name, prefix in states(lm):
        prefix.save(made / f"{name}.safetensors")
        export_state("vllm", made / f"{name}.safetensors", served, lm, EMBEDDED)
        cases += cases_of(lm, name, prefix)
    spoilt = first(block(lm, PAST), 8)
    replace(spoilt, fingerprint="0" * 32).save(served / "foreign.safetensors")
    spoilt.with_injection_layers([0, 1, 2]).save(served / "some-layers.safetensors")
    (served / "damaged.safetensors").write_bytes((served / "past.safetensors").read_bytes()[:-1] + b"!")
    demonstrations = [TEMPLATE.format(**dict(zip(("input", "output"), pair.split(), strict=True))) for pair in PAST]
    expected = {
        "model": str(find_model(EMBEDDED)[0]),
        "new_tokens": NEW_TOKENS,
        "stop_ids": sorted(lm.stop_ids),
        "demonstrations": [*lm.bos, *lm.encode("".join(demonstrations))],
        "cases": cases,
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1), encoding="utf-8")
    print(f"{len(cases)} cases in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
