"""What a face reads of a report and of metrics.jsonl. Files from elsewhere are held against it before they are kept."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from cedkv.files import dump_json
from cedkv.session.runs import RunError, judged_among

# What no other JSON file of a run has.
REPORT_BLOCKS = {"run_id", "model", "episode", "slots", "collapse"}


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Model(_Read):
    fingerprint: str


class _Texts(_Read):
    count: int


class _Episode(_Read):
    task: str
    template: str
    opening: str = ""
    stop: str = ""
    template_digest: str = ""
    on_eval: int = 0
    on_eval_gold: str = ""
    off: dict[str, _Texts] = {}


class _Criterion(_Read):
    name: str
    value: float
    op: str
    threshold: float
    passed: bool
    about: str


class _On(_Read):
    accuracy: float
    whole_answer: float | None = None
    answer_logprob: float | None = None
    kl_to_teacher: float
    answer_logprob_gain: float
    delta_on_mean: float


class _Tail(_Read):
    delta_p99: float


class _OffSet(_Tail):
    delta_max: float
    buckets: dict[str, _Tail]


class _Off(_Read):
    typical: _OffSet
    stress: _OffSet


class _SlotToken(_Read):
    text: str
    role: str
    weight: float


class _Slot(_Read):
    slot: int
    tokens: list[_SlotToken]


class _Collapse(_Read):
    value_cosine_max: float
    value_cosine_mean: float
    overlap_max: float | None
    overlap_mean: float | None
    effective_rank_keys: float
    effective_rank_values: float
    verdict: str = Field(min_length=1)


class _RoleMass(_Read):
    slots: list[dict[str, float]] = []


class _Timing(_Read):
    total: float = 0.0


class _Report(_Read):
    """A report of the gate or of an extraction. What a cut run has not come to is empty or missing."""

    run_id: str
    phase: int = 0
    method: str = ""
    complete: bool = True
    stopped: str = ""
    passed: bool = False
    slots_budget: int = Field(ge=0, lt=2**20)
    model: _Model
    episode: _Episode
    gate_a: list[_Criterion] = []
    gate_b: list[_Criterion] = []
    on: dict[str, _On] = {}
    off: dict[str, _Off] = {}
    slots: list[_Slot]
    collapse: _Collapse | None
    role_mass: _RoleMass = _RoleMass()
    timing: _Timing

    @field_validator("collapse", mode="before")
    @classmethod
    def _none_yet(cls, value: Any) -> Any:
        return None if value == {} else value

    @model_validator(mode="after")
    def _verdict_has_its_numbers(self) -> "_Report":
        if missing := self.on.keys() - self.off.keys():
            raise ValueError(f"'off' has no {min(missing)!r}, which 'on' has")
        views = {"base", "teacher"} <= self.on.keys() and judged_among(self.on)
        if self.gate_b and not (views and "passed" in self.model_fields_set):
            raise ValueError("'gate_b' stands without 'passed', or without base, teacher and student in 'on'")
        return self


class _OnSample(_Read):
    kind: Literal["on"]
    view: str
    input: str
    gold: str
    answer: str
    correct: bool
    whole: bool | None = None


class _OffSample(_Read):
    """One text; the number beside it is its Delta, named after phase and view."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    type: str
    kind: Literal["off"]
    view: str
    split: str
    bucket: str
    text: str

    @model_validator(mode="after")
    def _has_delta(self) -> "_OffSample":
        if not any("_delta_off_" in name for name in self.model_extra or ()):
            raise ValueError("no Delta stands beside the text")
        return self


class _SpanSample(_Read):
    kind: Literal["span"]


_RECORD = TypeAdapter(dict[str, Any])
_SAMPLE = TypeAdapter(Annotated[_OnSample | _OffSample | _SpanSample, Field(discriminator="kind")])


def check_report(report: Any, name: str) -> None:
    """Raise RunError naming the first block or number that a report of the gate would have otherwise."""
    try:
        _Report.model_validate(report)
    except ValidationError as error:
        raise RunError(f"{name!r}: {_mistake(error)}; it is no report of the gate") from error


def check_record(record: Any, name: str, line: int) -> None:
    """Raise RunError unless it is a strict JSON object and, as a `sample`, has what the page shows of it."""
    try:
        if _RECORD.validate_python(record).get("type") == "sample":
            _SAMPLE.validate_python(record)
        dump_json(record).encode()
    except (ValueError, RecursionError) as error:
        raise RunError(f"{name!r} line {line}: {_mistake(error)}; open the metrics.jsonl of a run") from error


def _mistake(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"not JSON: {type(error).__name__}"
    first = error.errors()[0]
    where, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{where!r}: {message}" if where else message
