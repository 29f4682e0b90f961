"""Training an extractor on a tiny model: it learns, sees nothing that is held out, and goes on bit for bit."""

import json

import pytest
import torch

from cedkv.cli import main
from cedkv.compressors.extractor import load_extractor
from cedkv.config import ExtractorConfig, load_settings
from cedkv.errors import ConfigError, DemoError, OutputError
from cedkv.events import TrainingStep, TrainingTick, drain
from cedkv.extractor.episodes import draw_episodes, tasks_of
from cedkv.extractor.stages import iter_extractor, make_lesson
from cedkv.optim.loop import LoopSettings, Training, run_training
from tests.slots.test_chunked import directions
from tests.tiny import tiny_lm, tiny_path

# The tiny tokenizer has a token for nearly every letter: short words keep tests short.
SMALL = [
    f"run.model.id={tiny_path('llama')}",
    "width=4",
    "data={episodes: 3, judged: 1, queries: 2, off_texts: 2, off_reads: 2, demos: [2, 3], slots: [places, 3]}",
    "data.tasks=[first-letter, capitalize, singular-plural]",
    "data.templates=[arrow, colon]",
    "training={steps: 4, on_batch: 2, off_batch: 2, tick_every: 2, checkpoint_every: 2, averaged: 0}",
]


def config_of(*overrides: str) -> ExtractorConfig:
    return load_settings(ExtractorConfig, None, [*SMALL, *overrides])


def test_what_is_held_out_is_never_drawn():
    config = config_of("data.tasks=[]", "data.held_out_tasks=[capitalize, antonym]", "data.episodes=200",
                       "data.templates=[arrow]", "data.held_out_templates=[colon, qa]")  # fmt: skip
    for drawn in draw_episodes(config):
        assert drawn and not {each.task for each in drawn} & {"capitalize", "antonym"}
        assert {each.template for each in drawn} == {"arrow"}
    assert len({each.task for each in draw_episodes(config)[0]}) == len(tasks_of(config)) == 33


def test_what_judges_is_never_trained_on():
    config = config_of("data.tasks=[]", "data.held_out_tasks=[capitalize]", "data.judged_tasks=[antonym, swap-words]",
                       "data.episodes=200", "data.judged=9",
                       "data.templates=[arrow]", "data.judged_templates=[qa]")  # fmt: skip
    train, judged = draw_episodes(config)
    assert {each.task for each in judged} == {"antonym", "swap-words"} and {each.template for each in judged} == {"qa"}
    assert not {each.task for each in train} & {"antonym", "swap-words", "capitalize"} and len(judged) == 9
    assert {each.template for each in train} == {"arrow"}


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="'arrow' is in templates and in held_out_templates"):
        config_of("data.held_out_templates=[arrow]")
    with pytest.raises(ConfigError, match="'antonym' is in judged_tasks and in held_out_tasks"):
        config_of("data.judged_tasks=[antonym]", "data.held_out_tasks=[antonym]")
    with pytest.raises(DemoError, match="did you mean 'capitalize'"):
        tasks_of(config_of("data.held_out_tasks=[capitalise]"))


def test_one_seed_draws_the_same_episodes_and_another_others():
    assert draw_episodes(config_of()) == draw_episodes(config_of())
    assert draw_episodes(config_of("run.seed=1")) != draw_episodes(config_of())


def test_every_number_of_the_extractor_gets_a_gradient():
    """Once its last map is no longer zero, also what stands before it; the logits only where places share a slot.

    Chance models carry no weight in their keys, so this one is given directions in which they do.
    """
    lesson = make_lesson(tiny_lm(), config_of("data.slots=[3]"))
    for episode in lesson.episodes:
        vars(episode.bench)["directions"] = directions()
    with torch.no_grad():
        lesson.net.out.weight.normal_(generator=torch.Generator().manual_seed(0))
    lesson.losses(0).total.backward()
    for name, number in lesson.net.named_parameters():
        assert number.grad is not None and number.grad.isfinite().all(), name
        assert number.grad.abs().max() > 0 or name.endswith("in_proj_bias"), name


def test_it_learns():
    """On one episode and with one size, the loss falls."""
    config = config_of("data.episodes=1", "data.slots=[places]", "training.gain_lr=0.15", "training.within_lr=0.3")
    lesson = make_lesson(tiny_lm(), config)
    lesson.judged = lesson.episodes
    before = lesson.measure(0).value
    training = Training(lesson, LoopSettings(20, tick_every=20))
    list(run_training(training))
    assert training.best_value < 0.8 * before


def test_a_training_that_is_cut_and_taken_up_ends_like_one_that_never_was(tmp_path):
    config = config_of("training.averaged=0.5")
    whole = drain(iter_extractor(config, tmp_path / "whole"))
    cut = iter_extractor(config, tmp_path / "cut")
    next(event for event in cut if isinstance(event, TrainingStep) and event.step == 2)
    cut.close()
    done = drain(iter_extractor(config, tmp_path / "cut", resume=True))
    assert done["figures"] == whole["figures"] and done["best_step"] == whole["best_step"]
    for name in ("extractor/extractor.safetensors", "extractor/extractor.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    with pytest.raises(OutputError, match="go on with --resume"):
        drain(iter_extractor(config, tmp_path / "cut"))


def test_the_command_leaves_an_extractor_that_says_what_it_was_trained_on(tmp_path, capsys):
    settings = [part for each in [*SMALL, "data.held_out_tasks=[antonym]"] for part in ("--set", each)]
    assert main(["train", "extractor", *settings, "--out", str(tmp_path)]) == 0
    assert "kl_to_teacher" in capsys.readouterr().out
    notes = load_extractor(tiny_lm(), tmp_path / "extractor").notes
    assert notes["tasks"] == ["first-letter", "capitalize", "singular-plural"]
    assert notes["data"]["held_out_tasks"] == ["antonym"] and notes["judged"]["off_delta"] > 0
    lines = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines].count(TrainingTick.__name__) == 2
