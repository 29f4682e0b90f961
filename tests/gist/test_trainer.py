"""The trainer on a tiny model: it learns, adds up, goes on bit for bit, and keeps its adapter."""

import json

import pytest
import torch

from cedkv.cli import main
from cedkv.compressors.gist.examples import note_plan
from cedkv.compressors.gist.stages import iter_gist, make_lesson, tuning_of
from cedkv.config import GistConfig, load_settings
from cedkv.errors import CheckpointError, ConfigError, OutputError
from cedkv.events import TrainingStep, TrainingTick, Warned, drain
from cedkv.lm.finetune import iter_finetuning
from cedkv.lm.gists import load_reader
from cedkv.optim.checkpoint import Checkpoint
from tests.tiny import tiny_lm, tiny_path

# The tiny tokenizer has a token for nearly every letter.
SMALL = {
    "steps": 4, "batch_size": 2, "documents": 4, "held_out": 2, "tokens": "[110]", "digits": "[3]",
    "note": '"\\n{value}."', "tick_every": 2, "checkpoint_every": 2, "match_layers": 2, "warmup_steps": 0,
}  # fmt: skip


def config_of(curriculum: str = "{match_until: 0.5}", lora: str = "{r: 4, dropout: 0}", **training) -> GistConfig:
    settings = [f"training.{name}={value}" for name, value in {**SMALL, **training}.items()]
    named = [f"run.model.id={tiny_path('llama')}", "num_gist_tokens=8", f"curriculum={curriculum}", f"lora={lora}"]
    return load_settings(GistConfig, None, [*named, *settings])


def learnt(config: GistConfig, folder) -> tuple[list[float], list[torch.Tensor], list]:
    """Losses, trained parameters and events."""
    lm = tiny_lm()
    lesson = make_lesson(lm, config)
    events = list(iter_finetuning(lesson.reader.model, lesson, tuning_of(config, lm, folder), folder))
    losses = [event.loss for event in events if isinstance(event, TrainingStep)]
    return losses, [p for p in lesson.reader.model.parameters() if p.requires_grad], events


@pytest.mark.parametrize(("loss", "steps", "part"), [("ce", 60, 10), ("kl", 12, 1)])
def test_overfit_one_batch(tmp_path, loss, steps, part):
    """The loss on one batch falls below a tenth of what it was; nearness to the teacher is gained, too."""
    config = config_of(
        "{match_until: 0}", steps=steps, documents=2, tick_every=60, learning_rate=0.03, loss=loss, held_out=1
    )
    losses, _, _ = learnt(config, tmp_path)
    assert losses[-1] < losses[0] / part


@pytest.mark.parametrize("token_weights", ["rho1", "critic"])
def test_tokens_of_answers_are_weighed(token_weights):
    """The weights are of mean 1, not all alike, and what is trained feels them."""
    settings = {"documents": 2, "held_out": 1, "digits": "[3]"}
    plain, weighed = (
        make_lesson(tiny_lm(), config_of("{match_until: 0}", token_weights=name, **settings))
        for name in ("uniform", token_weights)
    )
    losses = [lesson.answer_loss(lesson.shelf, [0, 1]) for lesson in (plain, weighed)]
    assert losses[0] != losses[1] and losses[1].item() == pytest.approx(losses[0].item(), rel=0.9)
    losses[1].backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in weighed.reader.model.parameters())


def test_a_note_is_learnt(tmp_path):
    """What gists say where the value stands comes nearer to the note."""
    losses, _, _ = learnt(
        config_of("{match_until: 1}", steps=16, documents=2, tick_every=16, learning_rate=0.03), tmp_path
    )
    assert losses[-1] < losses[0] / 2


def test_gradient_accumulation(tmp_path):
    """Two forwards of two documents make the step of one forward of four."""
    whole = learnt(config_of(steps=2, batch_size=4), tmp_path / "whole")[1]
    parts = learnt(config_of(steps=2, batch_size=2, gradient_accumulation_steps=2), tmp_path / "parts")[1]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_checkpoint_save_load(tmp_path):
    """A training that is cut and taken up ends where one that was never cut does, bit for bit."""
    config = config_of("{match_until: 0.5, off_from: 0.7}", off_texts=2)
    whole = drain(iter_gist(config, tmp_path / "whole"))
    cut = iter_gist(config, tmp_path / "cut")
    next(event for event in cut if isinstance(event, TrainingTick))
    cut.close()
    done = drain(iter_gist(config, tmp_path / "cut", resume=True))
    assert done["figures"] == whole["figures"]
    for name in ("adapter/adapter_model.safetensors",):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    steps = [json.loads(line) for line in (tmp_path / "whole/training.jsonl").read_text().splitlines()]
    assert ["train/off_delta" in step["terms"] for step in steps if step["type"] == "TrainingStep"] == [False] * 3 + [
        True
    ]
    with pytest.raises(CheckpointError, match="other settings"):
        drain(iter_gist(config_of(learning_rate=0.5), tmp_path / "cut", resume=True))
    with pytest.raises(OutputError, match="holds a training"):
        drain(iter_gist(config, tmp_path / "cut"))


def test_memory_limit(tmp_path):
    """A checkpoint and an adapter hold what is trained and nothing of the frozen model."""
    config = config_of(steps=2)
    _, trained, _ = learnt(config, tmp_path)
    numbers = sum(parameter.numel() for parameter in trained)
    memory = Checkpoint(
        tmp_path / "checkpoint.safetensors", tuning_of(config, tiny_lm(), tmp_path).checkpoint.key
    ).read()
    held = sum(tensor.numel() for name, tensor in memory.tensors.items() if not name.startswith("random/"))
    assert numbers < 0.3 * sum(p.numel() for p in tiny_lm().model.parameters())
    assert held <= 3 * numbers + len(memory.tensors)  # parameters and Adam's two means


def test_large_gradients_are_told(tmp_path):
    events = learnt(config_of(steps=1, watched_grad_norm=1e-6), tmp_path)[2]
    told = [event.message for event in events if isinstance(event, Warned)]
    assert len(told) == 1 and "step 0: gradient norm" in told[0] and "is above 1e-06" in told[0]


def test_the_command_trains(tmp_path, capsys):
    settings = [f"--set=training.{name}={value}" for name, value in {**SMALL, "steps": 2}.items()]
    named = ["--model", str(tiny_path("llama")), "--set=num_gist_tokens=8", "--set=lora={r: 4}"]
    out = tmp_path / "run"
    assert main(["train", "gist", "--config", "configs/gist/gist_25.yaml", "--out", str(out), *named, *settings]) == 0
    assert "eval/answer_accuracy" in capsys.readouterr().out
    assert load_reader(tiny_lm(), out / "adapter").shape.tokens == 8
    assert json.loads((out / "report.json").read_text())["gists"] == 8


def test_a_note_that_does_not_fit_is_named():
    for settings, message in (
        ({"note": '"no value"'}, "must hold '{value}' once"),
        ({"note": '"{value}."'}, "begins with its value"),
        ({"note": '"The pass key is {value}."'}, "num_gist_tokens = 8: the note takes"),
    ):
        with pytest.raises(ConfigError, match=message):
            note_plan(tiny_lm(), config_of(**settings))
