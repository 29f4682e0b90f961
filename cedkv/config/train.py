"""Settings of trainings that change a model's weights."""

from typing import Literal

from pydantic import Field, StrictInt

from cedkv.config.base import Settings
from cedkv.config.schema import Config


class LoraSettings(Settings):
    rank: StrictInt = Field(8, ge=1, le=256, description="Rank of the adapter.")
    layers: StrictInt = Field(8, ge=1, le=512, description="How many of the model's last layers have an adapter.")


class WeightSettings(Settings):
    scorer: str | None = Field(
        None,
        description="Scorer of token weights: rho1-excess-v1, critic-delta-v1, rho1-critic, uniform, shuffled or "
        "random-matched; the algorithm's own when nothing is said.",
    )
    reference: str = Field(
        "demonstrations",
        description="What a token's loss is compared with: demonstrations (the same model behind worked examples), or "
        "the id of another model with the same vocabulary.",
    )
    share: float = Field(0.6, gt=0, le=1, description="Share of tokens that is kept.")
    selection: Literal["hard", "soft"] = Field("hard", description="Keep or drop a token, or weigh around the cut.")
    temperature: float = Field(1.0, gt=0, le=100, description="How smoothly weights fall around the cut.")
    clip: float = Field(5.0, ge=1, description="Largest weight; the others are raised to keep the mean.")
    extreme: float = Field(50.0, gt=1, description="A weight above this, before it is clipped, stops the training.")
    critic_texts: StrictInt = Field(48, ge=2, description="Right and as many wrong solutions the critic learns from.")
    critic_steps: StrictInt = Field(150, ge=1, le=10000, description="Steps of the critic's training.")
    critic_lr: float = Field(0.02, gt=0, le=10, description="Learning rate of the critic.")


class TrainTexts(Settings):
    kinds: tuple[Literal["sums", "relations"], ...] = Field(
        ("sums", "relations"), min_length=1, description="Kinds of made texts, by turns."
    )
    count: StrictInt = Field(96, ge=2, le=4096, description="Texts to train on.")
    held_out: StrictInt = Field(48, ge=2, le=4096, description="Texts that are judged, never trained on.")
    shots: StrictInt = Field(6, ge=1, le=64, description="Worked examples in front of the reference.")


class TrainSettings(Settings):
    """Training of weights: LoRA on the last layers, and heads that look further ahead."""

    algo: Literal["rho1-wmtp", "critic-wmtp", "mtp", "ntp"] = Field(
        "rho1-wmtp",
        description="Weighted by excess loss or by a critic, several tokens ahead; or unweighted: several tokens "
        "ahead (mtp) or the next one (ntp).",
    )
    horizon: StrictInt = Field(2, ge=1, le=8, description="Tokens ahead that are predicted; ntp has 1.")
    curriculum: bool = Field(True, description="Heads join one at a time over the first half of the training.")
    steps: StrictInt = Field(24, ge=1, le=100000, description="Training steps.")
    batch: StrictInt = Field(8, ge=1, le=1024, description="Texts per step.")
    lr: float = Field(0.002, gt=0, le=1, description="Learning rate of the first step.")
    decay: Literal["cosine", "linear"] = Field("cosine", description="How the learning rate falls to a tenth.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    tick_every: StrictInt = Field(8, ge=1, description="Steps between measurements on held-out texts.")
    checkpoint_every: StrictInt = Field(8, ge=1, description="Steps between checkpoints.")
    sinks: tuple[str, ...] = Field(("jsonl",), description="Where figures are kept: jsonl, mlflow.")
    lora: LoraSettings = LoraSettings()
    weights: WeightSettings = WeightSettings()
    texts: TrainTexts = TrainTexts()


class TrainingConfig(Config):
    """The settings of `cedkv train`; seed, model and runtime are those of `run`. No gate and no page has them."""

    train: TrainSettings = TrainSettings()
