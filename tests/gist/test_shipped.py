"""The gists that ship, on the embedded model: a text that nobody trained on as 25 slots, and the control beside it."""

from pathlib import Path

import pytest

from cedkv.compressors.gist import compress, document_tokens, with_document
from cedkv.compressors.shipped import gist_adapter
from cedkv.errors import ModelError
from cedkv.lm import generate, read_demo_kv
from cedkv.lm.gists import load_reader
from tests.tiny import tiny_lm

TEXT = (
    "The harbour wakes early. Boats leave before the sun is up, and the gulls follow them for a while. The pass key is "
    "48291. Remember it. By noon the quay is empty, and only the old men stay on the bench."
)
QUERY = "\n\nWhat is the pass key? The pass key is "


def test_they_are_small_and_tell_no_path_of_the_machine_that_trained_them():
    files = list(Path(gist_adapter()).iterdir())
    assert sum(file.stat().st_size for file in files) < 10_000_000
    told = "".join(file.read_text(encoding="utf-8") for file in files if file.suffix == ".json")
    assert "gist" in "".join(file.name for file in files) and "/root" not in told and "/home" not in told


def test_a_pass_key_is_in_the_gists_that_saw_it_and_in_no_others(lm):
    reader = load_reader(lm, gist_adapter())
    document = read_demo_kv(lm, document_tokens(lm, TEXT))
    gists, blind = (compress(reader, document, control) for control in ("gist", "blind"))
    prefixes = (gists, with_document(document, gists), blind)
    of_gists, of_both, of_blind = (generate(lm, [lm.encode(QUERY)], prefix, 6)[0] for prefix in prefixes)
    assert of_gists.startswith("48291") and of_both.startswith("48291") and "48291" not in of_blind


def test_another_model_is_refused():
    with pytest.raises(ModelError, match="was trained for 'SmolLM2-135M-Instruct'"):
        load_reader(tiny_lm("llama"), gist_adapter())
