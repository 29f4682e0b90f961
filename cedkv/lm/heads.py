"""Heads that look further ahead, on any causal LM: the model itself is the first of them, to the bit."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import silu

HEADS_FILE = "mtp_heads.safetensors"


class ResidualHead(nn.Module):
    """`h + silu(W h + b)`, starting at the identity; in fp32, whatever the model is in.

    References
    ----------
    Cai et al. 2024, Medusa: simple LLM inference acceleration framework with multiple decoding heads.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(size, size, dtype=torch.float32)
        nn.init.zeros_(self.inner.weight)
        nn.init.zeros_(self.inner.bias)

    def forward(self, hidden: Float[Tensor, "batch tokens hidden"]) -> Float[Tensor, "batch tokens hidden"]:
        return hidden + silu(self.inner(hidden.float())).to(hidden.dtype)


class MTPWrapper(nn.Module):
    """A causal LM with `horizon - 1` more heads on its own unembedding.

    Every head reads the state that the unembedding reads, and what the model does to its logits afterwards (a scale, a
    soft cap) is done to all of them.

    Parameters
    ----------
    model : of transformers, or a PEFT model around one.
    horizon : tokens ahead that are predicted, the model's own next token included.
    """

    model: Any  # a module that answers what `nn.Module` does not: its embeddings, its device, `generate`

    def __init__(self, model: nn.Module, horizon: int) -> None:
        super().__init__()
        self.model = model
        size = self.model.get_output_embeddings().weight.shape[1]
        self.heads = nn.ModuleList(ResidualHead(size) for _ in range(horizon - 1)).to(self.model.device)

    @property
    def horizon(self) -> int:
        return len(self.heads) + 1

    def forward(
        self, input_ids: Int[Tensor, "batch tokens"], horizon: int | None = None, **inputs: Any
    ) -> Float[Tensor, "batch read heads vocab"]:
        """Logits of the first `horizon` heads; of all without it. Head `h` (from 0) is `h + 1` tokens ahead."""
        active = self.heads[: (horizon or self.horizon) - 1]

        def further(unembedding: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            # `forward`, so that this hook is not called again.
            return torch.cat([logits, *(unembedding.forward(head(args[0])) for head in active)], dim=1)

        hook = self.model.get_output_embeddings().register_forward_hook(further)
        try:
            logits = self.model(input_ids=input_ids, use_cache=False, **inputs).logits
        finally:
            hook.remove()
        return logits.unflatten(1, (len(active) + 1, -1)).transpose(1, 2)

    def generate(self, *args: Any, **inputs: Any) -> Any:
        """The model's own: further heads have no part in it."""
        return self.model.generate(*args, **inputs)


def save_heads(wrapper: MTPWrapper, folder: Path) -> None:
    """Write the further heads into a folder that is there."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in wrapper.heads.state_dict().items()}
    save_file(tensors, folder / HEADS_FILE, {"horizon": str(wrapper.horizon)})


def load_heads(model: nn.Module, folder: Path) -> MTPWrapper:
    """The wrapper of a model with the heads that `save_heads` wrote."""
    tensors = load_file(folder / HEADS_FILE)
    wrapper = MTPWrapper(model, 1 + len({name.partition(".")[0] for name in tensors}))
    wrapper.heads.load_state_dict(tensors)
    return wrapper
