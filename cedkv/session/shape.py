"""What a face reads of a report and of metrics.jsonl. Files from elsewhere are held against it before they are kept."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from cedkv.files import dump_json
from cedkv.report import Report
from cedkv.session.runs import RunError, judged_among

# What no other JSON file of a run has.
REPORT_BLOCKS = {"run_id", "model", "episode", "slots", "collapse"}


class _Read(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


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


def _has_numbers_of_its_verdict(report: Report) -> Report:
    on, off = report.get("on", {}), report.get("off", {})
    for view in sorted(on):
        if missing := {"typical", "stress"} - off.get(view, {}).keys():
            raise ValueError(f"'off' has no {view!r} on {min(missing)} texts, which 'on' has")
    views = {"base", "teacher"} <= on.keys() and judged_among(on)
    if report.get("gate_b") and not (views and "passed" in report):
        raise ValueError("'gate_b' stands without 'passed', or without base, teacher and student in 'on'")
    return report


_RECORD = TypeAdapter(dict[str, Any])
_REPORT: TypeAdapter[Report] = TypeAdapter(Annotated[Report, AfterValidator(_has_numbers_of_its_verdict)])
_SAMPLE = TypeAdapter(Annotated[_OnSample | _OffSample | _SpanSample, Field(discriminator="kind")])


def check_report(report: Any, name: str) -> Report:
    """The report as it was given. Raises RunError naming the first block or number that the gate writes otherwise."""
    try:
        _REPORT.validate_python(report)
    except ValidationError as error:
        raise RunError(f"{name!r}: {_mistake(error)}; it is no report of the gate") from error
    return report


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
