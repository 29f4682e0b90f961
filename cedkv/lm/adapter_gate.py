"""At which tokens a LoRA adapter is on, told anew for every forward."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool
from torch import Tensor, nn


@dataclass
class AdapterGate:
    """Where the adapter is on; its matrices see no other tokens, so those cost nothing and draw no dropout."""

    rows: Bool[Tensor, "batch tokens 1"] | None = None
    span: slice = field(default_factory=lambda: slice(None))

    @contextmanager
    def open_at(self, gists: Bool[Tensor, "batch tokens"]) -> Iterator[None]:
        columns = gists.any(dim=0).nonzero().flatten().tolist()
        self.span = slice(columns[0], columns[-1] + 1) if columns else slice(0)
        self.rows = gists[..., None]
        try:
            yield
        finally:
            self.rows, self.span = None, slice(None)

    def watch(self, model: nn.Module) -> None:
        """Stand in front of and behind every adapter of a PEFT model."""
        for name, module in model.named_modules():
            part = name.rpartition(".")[0]
            if part.endswith("lora_dropout"):
                module.register_forward_pre_hook(self._narrow)
            if part.endswith("lora_B"):
                module.register_forward_hook(self._widen)

    def _narrow(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (inputs[0][:, self.span],)

    def _widen(self, module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        if self.rows is None:
            return out
        whole = out.new_zeros(*self.rows.shape[:2], out.shape[-1])
        whole[:, self.span] = out * self.rows[:, self.span]
        return whole
