"""The report's type: what gate and extraction write, what every reader reads, and what an opened file is held against.

A report is the JSON that docs/report.md describes. A key that is not required is missing where a run has not come to
it, has nothing to say of it, or was made by a version that did not write it; a reader that needs one asks with `get`.
Keys that no type names are let through.
"""

from typing import Annotated, NotRequired

from pydantic import ConfigDict, Field, WrapValidator, with_config
from typing_extensions import TypedDict

# Criteria of harm besides those of Delta, whose names begin with `off_`.
SAME_CONTINUATIONS, CHOICE_LOSS = "same_continuations", "choice_loss"

# What a cut run has not come to is an empty object.
_OrNothingYet = WrapValidator(lambda value, check: value if value == {} else check(value))


class ModelBlock(TypedDict):
    """The model that a run was made with."""

    id: NotRequired[str]
    fingerprint: str
    architecture: NotRequired[str]
    dtype: NotRequired[str]
    device: NotRequired[str]
    layers: NotRequired[int]
    kv_heads: NotRequired[int]
    head_dim: NotRequired[int]


class OffSize(TypedDict):
    """How many OFF texts were judged, and which."""

    count: int
    sha256: NotRequired[str]


class FirstToken(TypedDict):
    """Whether the answers' first token tells views apart."""

    blank: float
    commonest: str
    commonest_share: float
    by_format: bool


class EpisodeBlock(TypedDict):
    """The block that the slots stand for and its queries; a relation also says its template."""

    task: str
    tokens: NotRequired[int]
    on_train: NotRequired[int]
    on_train_source: NotRequired[str]
    on_eval: NotRequired[int]
    on_eval_gold: NotRequired[str]
    demos: NotRequired[int]
    template: NotRequired[str]
    opening: NotRequired[str]
    stop: NotRequired[str]
    template_digest: NotRequired[str]
    off: NotRequired[dict[str, OffSize]]
    first_token: NotRequired[FirstToken]
    a_query: NotRequired[str]
    demos_lost: NotRequired[bool]


class DemosBlock(TypedDict):
    """How a file of demonstrations was read."""

    format: str
    reading: str
    count: int
    warnings: list[str]


class CriterionRow(TypedDict):
    """One line of a gate: `value op threshold`."""

    name: str
    value: float
    op: str
    threshold: float
    passed: bool
    about: str


def of_harm(row: CriterionRow) -> bool:
    """Whether a criterion of Gate B asks what the slots do to other text, and not whether they work."""
    return row["name"].startswith("off_") or row["name"] in (SAME_CONTINUATIONS, CHOICE_LOSS)


class OnScores(TypedDict):
    """One view on the ON queries, means over them: shares, and divergences and log-probabilities in nats."""

    accuracy: float
    gain: NotRequired[float]
    kl_to_teacher: float
    kl_student_teacher: NotRequired[float]
    rel_kl_to_teacher: NotRequired[float]
    answer_logprob: NotRequired[float]
    answer_logprob_gain: float
    delta_on_mean: float
    whole_answer: NotRequired[float]
    trials: NotRequired[list[float]]
    whole_answer_trials: NotRequired[list[float]]


class Tail(TypedDict):
    """`Delta` over some OFF texts, or positions of real texts, nats; of these the perplexity over the base's too."""

    count: int
    delta_mean: float
    delta_p99: float
    delta_max: float
    perplexity_ratio: NotRequired[float]


class OffScores(Tail):
    """One view on one OFF set: over all texts, and per kind of text. Of real text the positions after the eighth."""

    buckets: dict[str, Tail]
    all_positions: NotRequired[Tail]


class ContinuedScores(TypedDict):
    """How greedy continuations of real text compare with the base's own: the shares whose first so many tokens are the
    same, and how many are in the mean."""

    count: int
    tokens: int
    same_first: dict[str, float]
    same_tokens: float


class ChoiceScores(TypedDict):
    """Multiple-choice questions that the model can answer without slots: shares of right ones, the base's, and of equal
    choices."""

    count: int
    accuracy: float
    base: float
    agreement: float


class SlotToken(TypedDict):
    """A token that a slot is made of, with its share."""

    index: NotRequired[int]
    text: str
    role: str
    demo: NotRequired[int]
    weight: float


class SlotRow(TypedDict):
    """One slot in words and its tokens of most weight."""

    slot: int
    position: NotRequired[int]
    active: NotRequired[bool]
    words: NotRequired[str]
    tokens: list[SlotToken]


class RoleMass(TypedDict, total=False):
    """The slots' weight per token role: of all in use together, and of each; empty for slots without a mixture."""

    mean: dict[str, float]
    slots: list[dict[str, float]]


class CollapseBlock(TypedDict):
    """Whether slots are copies of each other; no overlaps for slots without a mixture."""

    key_cosine_max: NotRequired[float]
    key_cosine_mean: NotRequired[float]
    value_cosine_max: float
    value_cosine_mean: float
    overlap_max: float | None
    overlap_mean: float | None
    effective_rank_keys: float
    effective_rank_values: float
    near_copies: NotRequired[list[list[int]]]
    verdict: Annotated[str, Field(min_length=1)]


class SlotBlocks(TypedDict):
    """What a report says of a state's slots."""

    slots: list[SlotRow]
    role_mass: RoleMass
    collapse: Annotated[CollapseBlock, _OrNothingYet]


class TrainingBlock(TypedDict):
    """What a training left, of one trained method."""

    phase3_loss_on: float | None
    phase3_loss_off: float | None
    phase3_loss_str: float | None
    steps: int
    stopped: str
    best_step: int
    seconds_per_step: float
    lambda_off_trace: list[float]
    topk_trace: list[int]
    role_mass_trace: list[dict[str, float]]
    correlations: dict[str, float | None]


class StateFile(TypedDict):
    """The file that a gate judged in place of its own student."""

    file: NotRequired[str]
    method: str | None
    precision: NotRequired[str | None]


@with_config(ConfigDict(strict=True, allow_inf_nan=False))
class Report(TypedDict):
    """A report of the gate (`phase` is its kind's) or of an extraction or a lone state (`phase` 0, `method`).

    `on`, `off`, `continued` and `choice` are by view; `off` has the OFF sets of each by name. A kind of gate may add
    fields of its own.
    """

    run_id: str
    phase: NotRequired[int]
    method: NotRequired[str]
    complete: NotRequired[bool]
    stopped: NotRequired[str]
    seed: NotRequired[int]
    slots_budget: Annotated[int, Field(ge=0, lt=2**20)]
    model: ModelBlock
    episode: EpisodeBlock
    demonstrations_read: NotRequired[DemosBlock | None]
    state: NotRequired[StateFile]
    passed: NotRequired[bool]
    gate_a: NotRequired[list[CriterionRow]]
    gate_b: NotRequired[list[CriterionRow]]
    on: NotRequired[dict[str, OnScores]]
    off: NotRequired[dict[str, dict[str, OffScores]]]
    continued: NotRequired[dict[str, ContinuedScores]]
    choice: NotRequired[dict[str, ChoiceScores]]
    collapse: Annotated[CollapseBlock, _OrNothingYet]
    role_mass: NotRequired[RoleMass]
    slots: list[SlotRow]
    slot_factors: NotRequired[list[float]]
    training: NotRequired[dict[str, TrainingBlock]]
    timing: dict[str, float]
    versions: NotRequired[dict[str, str]]
