"""Settings of an extractor's training."""

from itertools import combinations
from typing import Annotated, Literal

from pydantic import Field, StrictInt, model_validator

from cedkv.config.base import Settings
from cedkv.config.schema import RunSettings

Count = Annotated[StrictInt, Field(ge=1, le=128)]


class ExtractorData(Settings):
    """What episodes are drawn from. Nothing that is held out is ever drawn."""

    tasks: tuple[str, ...] = Field((), description="Shipped tasks to train on; all that are not held out if empty.")
    held_out_tasks: tuple[str, ...] = Field((), description="Shipped tasks that are never trained on.")
    templates: tuple[str, ...] = Field(
        ("qa", "arrow", "colon"), min_length=1, description="Templates to train on: names, or texts with fields."
    )
    held_out_templates: tuple[str, ...] = Field((), description="Templates that are never trained on.")
    judged_tasks: tuple[str, ...] = Field(
        (),
        description="Shipped tasks that only judge which state is best; those trained on if empty.",
    )
    judged_templates: tuple[str, ...] = Field((), description="Templates that only judge; those trained on if empty.")
    demos: tuple[Count, ...] = Field((5, 10, 20), min_length=1, description="Numbers of demonstrations, drawn by lot.")
    slots: tuple[Count | Literal["places"], ...] = Field(
        ("places", 8), min_length=1, description="Numbers of slots, drawn by lot; places: as many as the template has."
    )
    pairs: str | None = Field(
        None, description="Pair log that the table of corrections starts from; what is held out is left out of it too."
    )
    episodes: StrictInt = Field(40, ge=1, le=100000, description="Episodes to train on, a task's turn by turn.")
    judged: StrictInt = Field(
        4,
        ge=1,
        le=1000,
        description="Further episodes, which only say which state is best.",
    )
    queries: StrictInt = Field(12, ge=1, le=64, description="ON queries of an episode.")
    off_texts: StrictInt = Field(16, ge=1, le=1024, description="OFF texts of an episode, every second near-format.")
    off_reads: StrictInt = Field(8, ge=1, le=64, description="Positions read at the end of each OFF text.")

    @model_validator(mode="after")
    def _apart(self) -> "ExtractorData":
        for kind in ("tasks", "templates"):
            groups = [(name, set(getattr(self, name))) for name in (kind, f"judged_{kind}", f"held_out_{kind}")]
            for (name, some), (other, others) in combinations(groups, 2):
                if both := some & others:
                    raise ValueError(f"{min(both)!r} is in {name} and in {other}; take it out of one of them")
        return self

    @property
    def not_trained_on(self) -> tuple[set[str], set[str]]:
        """The names of tasks and of templates that only judge or are held out."""
        return {*self.judged_tasks, *self.held_out_tasks}, {*self.judged_templates, *self.held_out_templates}


class ExtractorTraining(Settings):
    steps: StrictInt = Field(160, ge=1, le=100000, description="Training steps, each on one episode.")
    on_batch: StrictInt = Field(6, ge=1, le=64, description="ON queries per step.")
    off_batch: StrictInt = Field(6, ge=1, le=64, description="OFF texts per step.")
    off_weight: float = Field(3.0, ge=0, description="Weight of Delta on OFF texts beside the KL on ON queries.")
    tail_fraction: float = Field(
        0.7, gt=0, le=1, description="Share of the OFF positions whose mean Delta is descended (CVaR)."
    )
    weight_lr: float = Field(0.06, gt=0, le=1, description="Learning rate of the shared log-biases.")
    gain_lr: float = Field(0.03, gt=0, le=1, description="Learning rate of the shared gains.")
    within_lr: float = Field(0.1, gt=0, le=1, description="Learning rate of the shared logits of merged places.")
    encoder_lr: float = Field(
        0.002, ge=0, le=1, description="Learning rate of what reads an episode's own places; 0 leaves it out."
    )
    decay: Literal["cosine", "linear"] = Field("cosine", description="How learning rates fall to a tenth.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    averaged: float = Field(0.9, ge=0, lt=1, description="Share of the running mean of numbers that a step keeps.")
    tick_every: StrictInt = Field(20, ge=1, description="Steps between measurements on the judged episodes.")
    checkpoint_every: StrictInt = Field(20, ge=1, description="Steps between checkpoints.")
    sinks: tuple[str, ...] = Field(("jsonl",), description="Where figures are kept: jsonl, mlflow.")


class ExtractorConfig(Settings):
    """The settings of `cedkv train extractor`."""

    run: RunSettings = RunSettings()
    width: StrictInt = Field(32, ge=2, le=512, multiple_of=2, description="Numbers that are read of each place.")
    weight: float = Field(0.8, ge=0, le=2, description="As phase3.chunked.weight, of the corrected closed form.")
    data: ExtractorData = ExtractorData()
    training: ExtractorTraining = ExtractorTraining()
