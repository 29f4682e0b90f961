"""What a state file says beside its tensors."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from cedkv.state.mixture import DemoTokens

FORMAT = "cedkv-state"
FORMAT_VERSION = 4


class Notes(BaseModel):
    """What a state says about where it comes from. Anything else that is JSON may stand beside it."""

    model_config = ConfigDict(strict=True, extra="allow")

    method: str = ""
    task: str = ""
    template: str = ""
    opening: str = ""
    stop: str = ""
    model: str = ""
    tokenizer: str = ""
    episode: str = ""
    positioning: str = ""
    padding: str = ""
    rope: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    teacher_bytes: int = Field(0, ge=0, lt=2**63)


class Header(BaseModel):
    """What a state file says beside its tensors."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format_version: int
    slots: int = Field(ge=0, lt=2**20)
    layers: int = Field(ge=1, lt=2**20)
    kv_heads: int = Field(ge=1, lt=2**20)
    head_dim: int = Field(ge=1, lt=2**20)
    dtype: str
    fingerprint: str
    query_start: int = Field(ge=0, lt=2**31)
    created: datetime
    versions: dict[str, str]
    checksums: dict[str, str]
    meta: Notes
    tokens: DemoTokens | None = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.layers, self.kv_heads, self.slots, self.head_dim
