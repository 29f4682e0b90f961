"""The settings of trained slots."""

from typing import Annotated, Literal

from pydantic import Field, StrictInt, model_validator

from cedkv.config.base import LayerScope, OffSource, Settings
from cedkv.config.harm import HarmThresholds


class KAnchorSettings(Settings):
    policy: Literal["warm_start_fixed"] = Field(
        "warm_start_fixed", description="With v_only, each slot keeps the key of the token it started from."
    )


class DelimiterSettings(Settings):
    """Delimiter steering, applied post_topk_renorm_per_slot: on the weights that are really used."""

    cap: float = Field(1.0, gt=0, le=1, description="Most delimiter mass a slot may have; the sink's slot is exempt.")
    penalty: float = Field(0.0, ge=0, description="Weight of the squared delimiter mass above the cap, in L_str.")
    warn_margin: float = Field(0.05, ge=0, le=1, description="Warn when mean delimiter mass comes this near the cap.")


class MixtureSettings(Settings):
    scope: Literal["shared", "per_layer", "per_head"] = Field(
        "per_head", description="One mixture for all layers, one per layer, or one per layer and key/value head."
    )
    mix_mode: Literal["v_only", "kv"] = Field("kv", description="Mix values only, or keys (pre-RoPE) too.")
    k_anchor: KAnchorSettings = KAnchorSettings()
    key_candidates: Literal["all", "input_and_delimiter_only"] = Field(
        "all", description="Tokens that keys may come from (kv), and anchors."
    )
    value_candidates: Literal["all", "input_and_delimiter_only"] = Field(
        "all", description="Tokens that values may come from; without output tokens no answer can be copied."
    )
    output_factor: float = Field(
        0.5, ge=0, le=1, description="Factor on the weight of output tokens before a slot is renormalised."
    )
    delimiter: DelimiterSettings = DelimiterSettings()


class ChunkedSettings(Settings):
    weight: float = Field(
        0.8,
        ge=0,
        le=2,
        description="A slot that is the mean of n tokens counts as n to this power: 1 as all of them, 0 as one.",
    )


class AmortisedSettings(Settings):
    extractor: str | None = Field(
        None, description="Folder of a trained extractor; without it the one that ships for the model."
    )
    refine_steps: StrictInt = Field(
        0, ge=0, le=5000, description="Steps of ordinary training that go on from the extractor's slots."
    )


class LeastSettings(Settings):
    """What training may change of slots that are chunks."""

    weight: bool = Field(True, description="Learn as how many tokens each slot counts, per layer and key/value head.")
    weight_lr: float = Field(0.15, gt=0, le=10, description="Learning rate of Adam on these log-biases.")
    start_weight: float = Field(
        0.6, ge=0, le=2, description="As chunked.weight, for the slots that training starts from: quieter is faster."
    )
    gain: bool = Field(True, description="Learn a factor on each slot's value, per layer and key/value head.")
    gain_lr: float = Field(0.05, gt=0, le=10, description="Learning rate of Adam on these factors.")
    within_chunks: Literal["merged", "all", "none"] = Field(
        "merged",
        description="Where a slot learns a mixture of its chunk's tokens instead of their mean: where several places "
        "of the template had to share it, everywhere, or nowhere.",
    )
    within_lr: float = Field(0.3, gt=0, le=10, description="Learning rate of Adam on the logits of these mixtures.")
    shared: Literal["none", "heads", "layers"] = Field(
        "none", description="What shares weight and gain: nothing, the heads of a layer, or all layers and heads."
    )
    pure_sink: bool = Field(False, description="Leave the slot of the attention sink as it is.")
    price: float = Field(
        0.0,
        ge=0,
        description="Price, in L_str, of each slot's log(1 + count) in the mean over heads: slots leave the heads that "
        "do without them.",
    )
    selective: bool = Field(
        False, description="Learn a weight too that the relation's queries feel and other texts do not."
    )
    value_rank: StrictInt = Field(
        0, ge=0, le=4, description="Rank of a map that is learnt for each slot's value and pulled to none; 0: no map."
    )
    value_rank_lr: float = Field(0.02, gt=0, le=10, description="Learning rate of Adam on these maps.")


class MixtureScopeSettings(Settings):
    mixture: LayerScope = Field(
        "all", description="Layers whose slots are trained; elsewhere they stay copies of the tokens they started from."
    )
    injection: LayerScope = Field(
        "all", description="Layers that see the slots: all, top25, last_n (last_8) or a list."
    )


class LossSettings(Settings):
    lambda_on: float = Field(1.0, ge=0, description="Weight of L_on, the KL to the teacher on ON queries.")
    lambda_off: float = Field(4.0, ge=0, description="Weight of L_off at the start; dual ascent raises it.")
    lambda_str: float = Field(0.02, ge=0, description="Weight of L_str: entropy and overlap of the mixtures.")
    tail_fraction: float = Field(
        0.7, gt=0, le=1, description="Share of the OFF batch whose mean Delta is L_off (CVaR)."
    )
    on_tokens: Literal["all", "first"] = Field(
        "all",
        description="Match the teacher on the first answer token and, added to that, on the rest of its greedy answer "
        "and its end; or on the first token alone.",
    )
    token_weights: Literal["uniform", "rho1", "critic"] = Field(
        "uniform",
        description="Which tokens of whole answers count more in L_on: none, those on which the slots are furthest "
        "behind the teacher (rho1), or those that change a critic's mind.",
    )


class OptimSettings(Settings):
    steps: StrictInt = Field(15, ge=1, le=5000, description="Training steps.")
    lr: float = Field(0.3, gt=0, le=10, description="Learning rate of Adam on mixture logits.")
    free_lr: float = Field(0.03, gt=0, le=10, description="Learning rate of Free-KV, relative to each slot's size.")
    decay: Literal["cosine", "linear"] = Field("cosine", description="How the learning rate falls to a tenth.")
    clip: float = Field(1.0, gt=0, description="Largest gradient norm.")
    matching_iterations: StrictInt = Field(
        150, ge=0, le=2000, description="Iterations of the warm start that matches attention outputs layer by layer."
    )
    matching_speedup: float = Field(
        2.0, gt=0, le=100, description="Learning rate of that warm start, as a multiple of the training's."
    )
    matching_queries: StrictInt = Field(
        32, ge=32, le=1024, description="ON training queries that it matches; Select-KV looks at the first 32 of them."
    )
    made_up_queries: StrictInt = Field(
        0, ge=0, le=2048, description="Most training queries the model makes up besides the episode's own."
    )
    matching_off_texts: StrictInt = Field(16, ge=1, le=1024, description="OFF texts that the warm start leaves alone.")
    matching_off_weight: float = Field(0.5, ge=0, description="Weight of OFF texts in the warm start.")
    on_batch: StrictInt = Field(8, ge=1, le=256, description="ON queries per step.")
    off_batch: StrictInt = Field(10, ge=1, le=256, description="OFF texts per step.")
    off_reads: StrictInt = Field(
        8, ge=1, le=64, description="Positions read at the end of each of them: more tell more at hardly any cost."
    )
    topk_schedule: tuple[Annotated[StrictInt, Field(ge=1)], ...] = Field(
        (16, 8, 4), min_length=1, description="Tokens a slot may mix, in equal parts of the training."
    )
    tick_every: StrictInt = Field(5, ge=1, description="Steps between measurements of the real metrics.")
    tick_on_samples: StrictInt = Field(16, ge=1, description="ON training queries read at a tick.")
    tick_stress_samples: StrictInt = Field(
        128,
        ge=8,
        description="How many of the fixed stress texts a tick reads, all kinds alike; of all of them its p99 "
        "is the gate's.",
    )
    extend_to: int | None = Field(
        None,
        strict=True,
        ge=1,
        le=5000,
        description="Where the steps are over and the best state is still louder than extend_above: train on, as many "
        "steps as lie between ticks at a time, to at most so many; empty: never.",
    )
    extend_above: float = Field(
        2.0, gt=0, description="That bound: the p99 of Delta, nats, on the stress texts that ticks read."
    )
    early_stop: bool = Field(False, description="Stop when the ticks' metrics stop improving.")
    patience: StrictInt = Field(3, ge=1, description="Ticks without improvement before an early stop.")
    free_sink: bool = Field(True, description="Free-KV: keep the first slot as the attention sink.")
    train_dtype: Literal["auto", "model", "bfloat16"] = Field(
        "auto",
        description="Precision of the trunk while training; the gate judges in the model's own. auto is bfloat16 where "
        "the processor multiplies it natively.",
    )


class DualSettings(Settings):
    enabled: bool = Field(True, description="Raise lambda_off while the OFF constraint is violated.")
    target: float = Field(
        0.4,
        gt=0,
        description="The constraint: stress p99 of Delta, as a share of the teacher's; at most what the gate allows.",
    )
    eta: float = Field(1.0, gt=0, description="Step size of the ascent.")
    ema_beta: float = Field(0.5, ge=0, lt=1, description="Smoothing of the measured p99.")
    update_every: StrictInt = Field(1, ge=1, description="Ticks between updates.")
    delta_clip: float = Field(1.0, gt=0, description="Largest violation that counts in one update.")
    lambda_max: float = Field(8.0, gt=0, description="Upper bound of lambda_off.")


class OffDataSettings(Settings):
    off_train_source: Literal["hard_pool"] = Field("hard_pool", description="Where training samples OFF texts from.")
    off_constraint_source: OffSource = Field("fixed_stress", description="What the OFF constraint is measured on.")
    dual_metric_source: OffSource = Field("fixed_stress", description="What dual ascent reads.")
    stress_samples: StrictInt = Field(256, ge=8, le=16384, description="Size of the fixed stress eval.")
    pool_kinds: tuple[Literal["made", "real_text", "foreign"], ...] = Field(
        ("made",),
        min_length=1,
        description="Kinds of OFF text that are mined, by turns: made from frames, of real texts, other relations.",
    )
    pool_size: StrictInt = Field(24, ge=8, description="Texts kept in the hard pool.")
    candidates: StrictInt = Field(48, ge=8, description="Fresh candidates per refill, mined for large Delta.")
    refill_every: StrictInt = Field(8, ge=1, description="Steps between refills.")


class Phase3Thresholds(Settings):
    off_delta_p99_stress_max: float = Field(2.0, gt=0, description="Largest allowed p99 of Delta on the stress eval.")
    acc_vs_teacher_min: float = Field(0.9, ge=0, description="Least accuracy as a share of the teacher's.")
    whole_vs_teacher_min: float = Field(
        0.9, ge=0, description="Least share of right whole answers, as a share of the teacher's."
    )
    kl_to_teacher_max: float = Field(0.3, gt=0, description="Largest KL(teacher || student) on ON queries, nats.")
    delta_on_min: float = Field(0.5, ge=0, description="Least mean Delta on ON queries.")
    overlap_max: float = Field(0.98, gt=0, le=1, description="Largest overlap of two slots' mixtures.")
    harm: HarmThresholds = HarmThresholds()


class Phase3Settings(Settings):
    """Trained mixtures. Evaluation and Select-KV are those of `phase2`."""

    slots: StrictInt = Field(
        8, ge=1, le=128, description="Slots of the trained prefix, and of every baseline beside it."
    )
    policy_mode: Literal["prod", "debug"] = Field(
        "prod", description="prod refuses OFF constraint and dual sources that are not frozen; CI=true forces prod."
    )
    start: Literal["chunks", "tokens"] = Field(
        "chunks",
        description="What ced trains: chunks of tokens, of which it learns how much each counts (phase3.least), or "
        "mixtures of single tokens (phase3.mixture).",
    )
    chunked: ChunkedSettings = ChunkedSettings()
    amortised: AmortisedSettings = AmortisedSettings()
    least: LeastSettings = LeastSettings()
    mixture: MixtureSettings = MixtureSettings()
    layer_scope: MixtureScopeSettings = MixtureScopeSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    dual: DualSettings = DualSettings()
    off_data: OffDataSettings = OffDataSettings()
    thresholds: Phase3Thresholds = Phase3Thresholds()
    pair_log: str | None = Field(
        None, description="Folder to which trainings of chunks add what they found, for an extractor to learn from."
    )

    @model_validator(mode="after")
    def _used(self) -> "Phase3Settings":
        """Settings of mixtures of tokens change nothing where chunks are trained, so they are refused there."""
        if self.start == "chunks" and self.mixture != MixtureSettings():
            raise ValueError("mixture is for start: tokens; set phase3.start to tokens, or leave phase3.mixture out")
        return self
