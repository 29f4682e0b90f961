"""Settings of gist trainings, in the plan's own keys."""

from typing import Any, Literal

from pydantic import Field, StrictInt, model_validator

from cedkv.config.base import Settings
from cedkv.config.schema import RunSettings


class GistLora(Settings):
    r: StrictInt = Field(16, ge=1, le=256, description="Rank of the adapter.")
    alpha: StrictInt = Field(32, ge=1, le=1024, description="Scale of the adapter, divided by its rank.")
    dropout: float = Field(0.05, ge=0, lt=1, description="Share of the adapter's inputs dropped in training.")
    target_modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj"), min_length=1, description="Linear maps that get an adapter."
    )
    layers: StrictInt | None = Field(None, ge=1, description="Only so many of the first layers have one; all if null.")
    modules_to_save: tuple[Literal["embed_tokens"], ...] = Field(
        (),
        description="embed_tokens: train and save the whole embedding (234 MB for 151,936 x 384 in fp32) instead of "
        "the gists' rows.",
    )


class GistCurriculum(Settings):
    """What is learnt when, as shares of the steps: one wording, many wordings, then silence on other text."""

    match_until: float = Field(
        0.7, ge=0, le=1, description="Until here gists learn the keys and values of a note in their place."
    )
    one_wording_until: float = Field(0.0, ge=0, le=1, description="Until here needles have one wording.")
    off_from: float = Field(1.0, ge=0, le=1, description="From here on other text behind gists counts too.")


class GistTraining(Settings):
    steps: StrictInt = Field(300, ge=1, le=1000000, description="Updates.")
    batch_size: StrictInt = Field(8, ge=1, le=4096, description="Documents of a forward.")
    gradient_accumulation_steps: StrictInt = Field(1, ge=1, le=4096, description="Forwards of an update.")
    learning_rate: float = Field(0.002, gt=0, le=1, description="Highest learning rate.")
    warmup_steps: StrictInt = Field(10, ge=0, description="Updates over which the learning rate rises.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    watched_grad_norm: float = Field(10.0, gt=0, description="A larger norm, before it is clipped, is warned of.")
    loss: Literal["ce", "kl"] = Field(
        "ce", description="On answers: cross-entropy, or KL to the model that sees the document."
    )
    token_weights: Literal["uniform", "rho1", "critic"] = Field(
        "uniform",
        description="Which tokens of answers count more: none, those on which the gists are furthest behind the model "
        "that sees the document (rho1), or those that change a critic's mind.",
    )
    note: str = Field(
        "\nThe pass key is {value}.",
        description="The text that gists learn to stand for; where they begin, too. {value} is the needle's.",
    )
    match_layers: StrictInt = Field(12, ge=1, description="Layers that are run, and matched, while a note is learnt.")
    off_weight: float = Field(1.0, ge=0, description="Weight of Delta on OFF texts.")
    off_texts: StrictInt = Field(8, ge=1, description="OFF texts of a step.")
    documents: StrictInt = Field(128, ge=1, le=1000000, description="Documents to train on.")
    held_out: StrictInt = Field(16, ge=1, le=4096, description="Documents that are judged at ticks, never trained on.")
    tokens: tuple[StrictInt, ...] = Field((48, 80), min_length=1, description="Lengths of documents, in turn.")
    digits: tuple[StrictInt, ...] = Field((5, 6, 7), min_length=1, description="Digits that a value may have.")
    tick_every: StrictInt = Field(20, ge=1, description="Updates between measurements on held-out documents.")
    checkpoint_every: StrictInt = Field(20, ge=1, description="Updates between checkpoints.")
    sinks: tuple[str, ...] = Field(("jsonl",), description="Where figures are kept: jsonl, mlflow.")


class GistConfig(Settings):
    """The settings of `cedkv train gist`. `model.name` is the plan's word for `run.model.id`."""

    run: RunSettings = RunSettings()
    num_gist_tokens: StrictInt = Field(25, ge=2, le=4096, description="Gist tokens, and slots of a document's prefix.")
    sink: bool = Field(True, description="The first gist sees itself alone and becomes the attention sink.")
    quantization: Literal["none", "4bit"] = Field("none", description="Of the frozen weights; 4bit needs CUDA.")
    lora: GistLora = GistLora()
    curriculum: GistCurriculum = GistCurriculum()
    training: GistTraining = GistTraining()

    @model_validator(mode="before")
    @classmethod
    def _plan_names(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict) or "name" not in tree["model"]:
            return tree
        rest = {name: value for name, value in tree["model"].items() if name != "name"}
        if rest:
            raise ValueError(f"model.{min(rest)} is not a setting; model has a name")
        run = dict(tree.get("run") or {})
        run["model"] = {"id": tree["model"]["name"], **(run.get("model") or {})}
        return {**{name: value for name, value in tree.items() if name != "model"}, "run": run}
