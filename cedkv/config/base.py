"""What all blocks of settings share."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationInfo, field_validator

Seed = Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]
LayerScope = Literal["all", "top25"] | str | list[StrictInt]
SelectMode = Literal["attention_diversity_span", "delimiter_span", "random_span", "causal_drop_span"]
OffSource = Literal["fixed_stress", "hard_pool"]


class Settings(BaseModel):
    """Base of every block: unknown keys and numbers that are not finite are errors, and truth values are no numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if kind is bool and not isinstance(value, bool):
            raise ValueError("input should be true or false")
        if isinstance(value, bool) and float in (kind, *get_args(kind)):  # pydantic itself takes it for 1 or 0
            raise ValueError("input should be a valid number")
        return value
