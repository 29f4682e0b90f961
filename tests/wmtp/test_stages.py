"""The recipe on a tiny model: it learns, is the same by seed, goes on bit for bit, and stops where weights go wrong."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from cedkv.cli import main
from cedkv.cli.train import TRAININGS
from cedkv.config import TrainingConfig, load_settings
from cedkv.errors import CheckpointError, ConfigError, NonFiniteError, OutputError
from cedkv.events import TrainingStep, TrainingTick, drain
from cedkv.lm.adapters import adapted
from cedkv.lm.fingerprint import load_fingerprint
from cedkv.optim.loop import LoopSettings, Training, run_training
from cedkv.optim.weights import SCORERS, ScorerSettings, TokenBatch
from cedkv.wmtp.critic import CriticObjective
from cedkv.wmtp.data import encode_text, make_texts
from cedkv.wmtp.lesson import heads_at, next_token_losses
from cedkv.wmtp.metrics import require_sound, weight_figures
from cedkv.wmtp.readings import token_losses
from cedkv.wmtp.stages import iter_wmtp
from tests.tiny import tiny_lm, tiny_path

SMALL = [
    "train.steps=4",
    "train.batch=2",
    "train.tick_every=2",
    "train.checkpoint_every=2",
    "train.lora={rank: 2, layers: 2}",
    "train.texts={count: 6, held_out: 4, shots: 2}",
    "train.weights.critic_texts=4",
    "train.weights.critic_steps=10",
]


def config_of(*overrides: str) -> TrainingConfig:
    return load_settings(TrainingConfig, None, [f"run.model.id={tiny_path('llama')}", *SMALL, *overrides])


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text(encoding="utf-8").splitlines()]


def trained(config: TrainingConfig, folder: Path, resume: bool = False) -> list:
    events = list(iter_wmtp(config, folder, resume))
    return [event for event in events if isinstance(event, TrainingStep | TrainingTick) and event.method != "critic"]


def parameters(folder: Path) -> dict[str, torch.Tensor]:
    """What the checkpoint holds, read without knowing its key."""
    return load_file(folder / "checkpoint.safetensors")


def told(events: list) -> list[tuple]:
    return [
        (type(event).__name__, event.step, event.terms if hasattr(event, "terms") else event.figures)
        for event in events
    ]


@pytest.mark.parametrize("algo", ["rho1-wmtp", "critic-wmtp"])
def test_what_is_taken_up_goes_on_bit_for_bit(tmp_path, algo):
    config = config_of(f"train.algo={algo}")
    whole = trained(config, tmp_path / "whole")

    cut = iter_wmtp(config, tmp_path / "cut")
    first = []
    for event in cut:
        if isinstance(event, TrainingStep | TrainingTick) and event.method != "critic":
            first.append(event)
        if isinstance(event, TrainingTick) and event.method != "critic":
            break
    cut.close()
    second = trained(config, tmp_path / "cut", resume=True)

    assert second and len(second) < len(whole)
    assert told(whole)[-len(second) :] == told(second)
    one, other = parameters(tmp_path / "whole"), parameters(tmp_path / "cut")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    figures = [json.loads((tmp_path / name / "report.json").read_text())["figures"] for name in ("whole", "cut")]
    assert figures[0] == figures[1]


def test_a_run_leaves_settings_figures_and_a_model_of_its_own(tmp_path):
    code = main(["train", "wmtp", "--config", "configs/wmtp/both.yaml", "--out", str(tmp_path / "run"), *set_options()])
    assert code == 0
    steps = [line for line in lines(tmp_path / "run") if line["type"] == "TrainingStep" and line["method"] != "critic"]
    assert [line["step"] for line in steps] == [0, 1, 2, 3]
    named = {"weight_p25", "weight_p75", "weight_p95", "rho1_usage_ratio", "critic_delta_mean", "nan_weights"}
    named |= {"extreme_weights", "loss", "head_1_loss"}
    assert {f"train/{name}" for name in named} <= steps[0]["terms"].keys()
    assert "train/head_2_loss" not in steps[0]["terms"] and "train/head_2_loss" in steps[-1]["terms"]
    ticks = [line for line in lines(tmp_path / "run") if line["type"] == "TrainingTick" and line["method"] != "critic"]
    assert [line["step"] for line in ticks] == [1, 3] and "eval/important_token_error" in ticks[0]["figures"]
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report["scorer"] == "rho1-critic" and set(report["figures"]) == set(ticks[-1]["figures"])
    lm = tiny_lm()
    assert adapted(lm, tmp_path / "run/model").fingerprint != lm.fingerprint == load_fingerprint(tiny_path("llama"))
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["train"]["steps"] == 4


def set_options() -> list[str]:
    return [f"--model={tiny_path('llama')}", *(f"--set={setting}" for setting in SMALL)]


def test_a_training_is_not_overwritten(tmp_path):
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(OutputError, match="holds a training; go on with --resume"):
        next(iter_wmtp(config_of(), tmp_path))


def test_settings_that_cannot_be_are_named():
    with pytest.raises(ConfigError, match="train.algo = 'rho2'"):
        config_of("train.algo=rho2")
    with pytest.raises(ConfigError, match="scorer 'rho1' is unknown; did you mean"):
        drain(iter_wmtp(config_of("train.weights.scorer=rho1"), Path("nowhere")), lambda event: None)
    assert not Path("nowhere").exists()


def test_an_extreme_weight_stops_the_run_with_its_step(tmp_path):
    """With a fortieth of the tokens kept, a kept one weighs 40: above an extreme of 20, before it is clipped."""
    config = config_of("train.weights.share=0.025", "train.weights.extreme=20")
    with pytest.raises(NonFiniteError, match=r"step 0: extreme_weights is \d+, weights above 20"):
        list(iter_wmtp(config, tmp_path))
    stopped = [line for line in lines(tmp_path) if line["type"] == "Warned"]
    assert "step 0: extreme_weights" in stopped[0]["message"]


def test_weights_that_are_no_numbers_are_counted_and_refused():
    figures = weight_figures(torch.tensor([1.0, float("nan"), 1.0, float("inf"), 60.0]), extreme=50)
    assert (figures["train/nan_weights"], figures["train/extreme_weights"]) == (2, 1)
    with pytest.raises(NonFiniteError, match="step 7: nan_weights is 2"):
        require_sound(figures, 7, 50)


def test_the_usage_ratio_is_the_share_kept():
    figures = weight_figures(torch.tensor([0.0, 2.0, 0.0, 2.0]), extreme=50)
    assert figures["train/rho1_usage_ratio"] == pytest.approx(0.5)
    assert (figures["train/weight_p25"], figures["train/weight_p95"]) == (0, 2)


def test_heads_join_one_at_a_time():
    assert [heads_at(step, 8, 3) for step in range(8)] == [1, 1, 2, 2, 3, 3, 3, 3]
    assert [heads_at(step, 4, 1) for step in range(4)] == [1] * 4


def test_the_reference_is_read_as_the_training_reads_the_model():
    """Without demonstrations in front, a reference that is the model itself leaves no excess."""
    lm = tiny_lm()
    texts = [encode_text(lm.encode, lm.bos, text) for text in make_texts(["sums"], 3, 0)]
    read = token_losses(lm, texts, None)
    for text, losses in zip(texts, read, strict=True):
        ids = torch.tensor([text.ids])
        targets = ids.clone()
        targets[:, : len(lm.bos) + 1] = -100
        with torch.no_grad():
            own = next_token_losses(lm.model(input_ids=ids).logits, targets)
        assert torch.allclose(own[0], losses, atol=1e-3)
        weights = SCORERS["rho1-excess-v1"].setup(ScorerSettings())(TokenBatch(targets, own, losses[None]))["weights"]
        assert weights.shape == targets.shape


def test_a_critic_learns_where_the_answer_is_decided():
    """States whose first number says right or wrong from the third token on: the value moves there and nowhere else."""
    draw = torch.Generator().manual_seed(0)

    def states(sign: float) -> torch.Tensor:
        rows = 0.1 * torch.randn(6, 4, generator=draw)
        rows[3:, 0] += sign
        return rows

    right, wrong = [states(1.0) for _ in range(48)], [states(-1.0) for _ in range(48)]
    critic = CriticObjective.of_texts(right, wrong, 0.1)
    training = Training(critic, LoopSettings(100, tick_every=10))
    assert list(run_training(training))
    critic.load(training.best)
    values = critic.values(states(1.0))
    assert values[3:].min() > 0.8 and (values[:3] - 0.5).abs().max() < 0.25
    assert (values[1:] - values[:-1]).argmax() == 2


def test_every_training_of_the_command_can_be_loaded():
    for training in TRAININGS.values():
        assert callable(training.trainer())


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    list(iter_wmtp(config_of("train.steps=2"), tmp_path))
    with pytest.raises(CheckpointError, match="other settings, data or model"):
        list(iter_wmtp(config_of("train.steps=2", "train.lr=0.5"), tmp_path, resume=True))
    assert load_settings(TrainingConfig, tmp_path / "config.yaml") == config_of("train.steps=2"), (
        "what is kept is told of"
    )
