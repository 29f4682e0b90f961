"""The schema: every setting with its bounds. Field descriptions are the help text of YAML errors, CLI and app."""

from typing import Literal

from pydantic import Field, StrictInt, model_validator

from cedkv.config.base import LayerScope, Seed, SelectMode, Settings
from cedkv.config.harm import MEASURED_BY, HarmSettings, HarmThresholds
from cedkv.config.phase3 import Phase3Settings


class EpisodeSettings(Settings):
    task: str | None = Field(
        None, description="Name of a shipped relation task; present-past when nothing else says what the relation is."
    )
    task_file: str | None = Field(None, description="Pairs from a file instead: function-vectors JSON.")
    demos_file: str | None = Field(
        None, description="Only these demonstrations; held-out queries then come from `task` or `task_file` if given."
    )
    demos_format: str | None = Field(
        None, description="Format of the demonstrations file, such as csv or arrow; found out where it is left out."
    )
    demos: StrictInt = Field(10, ge=1, le=200, description="Demonstrations drawn from the task.")
    template: str = Field(
        "qa",
        description="Name of a template, or a text with {input} and {output}; chat, chat-one-turn: the model's own.",
    )
    on_source: Literal["held_out", "pasted", "generated"] = Field(
        "held_out",
        description="Training queries: held-out pairs, inputs pasted without labels, or inputs the model makes up.",
    )
    on_train: StrictInt = Field(64, ge=1, le=2048, description="Training queries; never an evaluation input.")
    pasted_inputs: tuple[str, ...] = Field((), description="Inputs for on_source: pasted.")
    test_pairs: tuple[tuple[str, str], ...] = Field(
        (),
        description="Labelled pairs to judge on, in place of a task's held-out ones or of queries that the model makes "
        "up. None may be a demonstration.",
    )


class ModelSettings(Settings):
    id: str = Field("embedded", description="embedded, a hub id, a local folder or a .gguf file.")


class RuntimeSettings(Settings):
    backend: Literal["hf"] = Field("hf", description="Real transformers models; there is no other backend.")
    allow_mock_fallback: bool = Field(False, description="Kept from the seeds; true is refused: nothing is mocked.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Where the model runs.")
    torch_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision of the frozen model; mixtures and losses stay in float32."
    )

    @model_validator(mode="after")
    def _no_mock(self) -> "RuntimeSettings":
        if self.allow_mock_fallback:
            raise ValueError("allow_mock_fallback: true is refused, there is no mock model; set it to false")
        return self


class RunSettings(Settings):
    seed: Seed = Field(0, description="Seed of every draw.")
    model: ModelSettings = ModelSettings()
    runtime: RuntimeSettings = RuntimeSettings()


class EvalSettings(Settings):
    on_samples: StrictInt = Field(64, ge=1, le=4096, description="Unseen relation queries that are judged.")
    off_samples: StrictInt = Field(256, ge=8, le=16384, description="OFF texts that are judged.")
    repro_runs: StrictInt = Field(
        2, ge=2, le=10, description="Repeats of the student's evaluation for the repeat tolerance."
    )
    n_random_trials: StrictInt = Field(5, ge=1, le=50, description="Random selections whose mean accuracy is the bar.")
    decoding: Literal["greedy", "sample"] = Field(
        "greedy", description="How answers to look at are made; judged are greedy ones."
    )
    answer_tokens: StrictInt = Field(
        8, ge=1, le=64, description="Longest generated answer, in tokens; longer where the right ones are."
    )
    harm: HarmSettings = HarmSettings()


class PrefixSettings(Settings):
    padding_mode: Literal["null_pad", "shrink_to_selected"] = Field(
        "null_pad", description="Fill up to prefix_len with masked no-op slots, or keep only the selected ones."
    )


class InjectionSettings(Settings):
    positioning_mode: Literal["compact", "absolute"] = Field(
        "compact", description="Slots at 0..S-1, or at the end of the demonstrations' span."
    )


class SelectSettings(Settings):
    mode: SelectMode = Field("attention_diversity_span", description="How spans of demonstration tokens are ranked.")
    span_len: StrictInt = Field(
        4, ge=1, le=256, description="Tokens per span; with align: demo, a whole demonstration."
    )
    span_budget: StrictInt = Field(8, ge=1, le=256, description="Most spans that are taken.")
    min_span_distance: StrictInt = Field(
        0, ge=0, le=256, description="Tokens that must lie between two chosen centres."
    )
    candidate_policy: Literal["all", "input_and_delimiter_only"] = Field(
        "input_and_delimiter_only",
        description="Which tokens may be a span's start or centre; the tokens inside a span are not restricted.",
    )
    center_policy: Literal["start", "center"] = Field("start", description="A span grows to the right, or both ways.")
    align: Literal["token", "demo"] = Field(
        "token", description="Spans of span_len tokens, or each widened to the whole demonstration around it."
    )
    source: Literal["copy", "reprefill"] = Field(
        "copy", description="The demonstrations' own KV, or the selected tokens run again as a short prompt."
    )
    keep_sink: bool = Field(True, description="Always keep token 0, the attention sink.")


class LayerScopeSettings(Settings):
    selection: LayerScope = Field("all", description="Layers whose attention scores spans: all, top25 or a list.")
    injection: LayerScope = Field(
        "all", description="Layers that see the slots: all, top25, last_n (last_8) or a list."
    )


class Phase2Thresholds(Settings):
    on_gain_min: float = Field(
        0.3,
        description="Least accuracy gain of Select-KV over base on ON queries; of whole answers where format decides "
        "the first token.",
    )
    off_delta_p99_max: float = Field(4.0, gt=0, description="Largest allowed p99 of Delta on OFF texts, nats.")
    delta_on_min: float = Field(0.5, ge=0, description="Least mean Delta on ON queries: the prefix does something.")
    rel_kl_to_teacher_max: float = Field(0.6, gt=0, description="Largest KL to the teacher, as a share of the base's.")
    repro_acc_tol: float = Field(0.0, ge=0, description="Largest accuracy difference between repeats.")
    harm: HarmThresholds = HarmThresholds()


class ReportingSettings(Settings):
    topk_tokens: StrictInt = Field(5, ge=1, le=50, description="Tokens listed per slot.")


class Phase2Settings(Settings):
    """What both phases share of the judging, and Select-KV."""

    eval: EvalSettings = EvalSettings()
    prefix_len: StrictInt = Field(16, ge=1, le=512, description="Slots of the Select-KV prefix.")
    prefix: PrefixSettings = PrefixSettings()
    injection: InjectionSettings = InjectionSettings()
    select: SelectSettings = SelectSettings()
    layer_scope: LayerScopeSettings = LayerScopeSettings()
    thresholds: Phase2Thresholds = Phase2Thresholds()
    reporting: ReportingSettings = ReportingSettings()


class Config(Settings):
    episode: EpisodeSettings = EpisodeSettings()
    run: RunSettings = RunSettings()
    phase2: Phase2Settings = Phase2Settings()
    phase3: Phase3Settings = Phase3Settings()

    @model_validator(mode="after")
    def _harm_is_measured(self) -> "Config":
        """A bound on what nobody measures would hold for nothing."""
        for phase, block in (("phase2", self.phase2), ("phase3", self.phase3)):
            for bound, amount in MEASURED_BY.items():
                if getattr(block.thresholds.harm, bound) is not None and not getattr(self.phase2.eval.harm, amount):
                    raise ValueError(
                        f"{phase}.thresholds.harm.{bound} is set, but phase2.eval.harm.{amount} is 0; set both or none"
                    )
        return self
