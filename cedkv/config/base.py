"""What all blocks of settings share."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt

Seed = Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]
LayerScope = Literal["all", "top25"] | str | list[StrictInt]
SelectMode = Literal["attention_diversity_span", "delimiter_span", "random_span", "causal_drop_span"]
OffSource = Literal["fixed_stress", "hard_pool"]


class Settings(BaseModel):
    """Base of every block: unknown keys are errors, values are not silently converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
