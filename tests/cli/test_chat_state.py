"""A state made with a chat template: queries become turns, and the base keeps the system turn."""

import shutil

import pytest

from cedkv.cli.show import quoted
from cedkv.lm import generate, load_model
from cedkv.state import KVPrefix
from tests.tiny import CHATML, PAIRS, tiny_path


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory) -> str:
    folder = shutil.copytree(tiny_path("llama"), tmp_path_factory.mktemp("models") / "chat")
    (folder / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    return str(folder)


def test_query_of_a_chat_state_is_a_turn_behind_the_system_turn(cli, chat_model, demos_file, tmp_path):
    out = tmp_path / "state.safetensors"
    made = cli(
        "extract", "--demos", demos_file, "--model", chat_model, "--method", "select", "--set", "episode.template=chat",
        "--set", "episode.on_source=pasted", "--set", "episode.pasted_inputs=[a, b, c, d]", "--out", out,
    )  # fmt: skip
    assert made.code == 0, made.err
    assert KVPrefix.load(out).meta["template"] == "chat"
    outcome = cli("query", "--state", out, "--demos", demos_file, "--tokens", 4, "rain")
    assert outcome.code == 0, outcome.err
    asked = "<bos>user\nrain<eos>\n<bos>assistant\n"
    assert outcome.out.splitlines()[0] == quoted(asked)
    lm = load_model(chat_model, device="cpu")
    shown = "".join(f"<bos>user\n{x}<eos>\n<bos>assistant\n{y}<eos>\n" for x, y in PAIRS)
    lead = "<bos>system\nYou help.<eos>\n"
    for view, text in (("base", lead + asked), ("teacher", lead + shown + asked)):
        (continuation,) = generate(lm, [lm.encode(text)], None, 4, stop="<eos>")
        (line,) = [line for line in outcome.out.splitlines() if line.startswith(view)]
        assert quoted(continuation) in line


def test_a_chat_state_is_not_asked_in_another_chat_template(cli, chat_model, demos_file, tmp_path):
    """The folder's template is no part of the model's fingerprint: weights and vocabulary are the same."""
    model, out = shutil.copytree(chat_model, tmp_path / "chat"), tmp_path / "state.safetensors"
    made = cli(
        "extract", "--demos", demos_file, "--model", model, "--method", "select", "--set", "episode.template=chat",
        "--set", "episode.on_source=pasted", "--set", "episode.pasted_inputs=[a, b, c, d]", "--out", out,
    )  # fmt: skip
    assert made.code == 0, made.err
    (model / "chat_template.jinja").write_text(CHATML.replace("You help.", "You refuse."), encoding="utf-8")
    error = cli("query", "--state", out, "--tokens", 4, "rain").error
    assert "template 'chat' of chat writes other text than when this was made" in error


def test_a_model_without_a_chat_template_is_refused_in_one_line(cli, model, demos_file, tmp_path):
    outcome = cli(
        "extract", "--demos", demos_file, "--model", model, "--set", "episode.template=chat", "--out", tmp_path / "s"
    )
    assert "the tokenizer of llama has no chat template" in outcome.error
