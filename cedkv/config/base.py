"""What every block of the schema is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt

Seed = Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]


class Settings(BaseModel):
    """Base of every block: unknown keys are errors, values are not silently converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
