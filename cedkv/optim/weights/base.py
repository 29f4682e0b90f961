"""What a scorer of token weights is, and what it reads."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORED = -100
# What a scorer may need besides the model's own losses.
Need = Literal["reference", "values"]


@dataclass(frozen=True)
class ScorerSettings:
    """What scorers can be set to.

    share : of the tokens that are kept, where a scorer chooses.
    selection : `hard` keeps or drops a token; `soft` lets weights fall smoothly around the same cut.
    temperature : how smoothly, in the scorer's own unit (nats of excess loss; standard deviations of delta).
    seed : of controls that draw.
    """

    share: float = 0.6
    selection: Literal["hard", "soft"] = "hard"
    temperature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class TokenBatch:
    """Tokens to be weighed, each in its own place. Weights come on the device and in the dtype of `loss`.

    targets : the tokens; -100 where there is none, or it is not predicted.
    loss : of the model on each token, nats.
    reference_loss : of the reference on each token, nats.
    values : the critic's value after each token; of the token before a text's first predicted one, too.
    """

    targets: Int[Tensor, "batch tokens"]
    loss: Float[Tensor, "batch tokens"]
    reference_loss: Float[Tensor, "batch tokens"] | None = None
    values: Float[Tensor, "batch tokens"] | None = None

    @property
    def valid(self) -> Bool[Tensor, "batch tokens"]:
        return self.targets != IGNORED

    def read(self, name: Literal["reference_loss", "values"]) -> Float[Tensor, "batch tokens"]:
        """What a scorer needs besides. Raises `ValueError` where it was not given."""
        column = self.reference_loss if name == "reference_loss" else self.values
        if column is None:
            raise ValueError(f"tokens are weighed without {name}, which this scorer needs")
        return column

    def spread(self, weights: Float[Tensor, " valid"]) -> Float[Tensor, "batch tokens"]:
        """Weights of the valid tokens, made to mean 1, in their places; 0 everywhere else.

        Where all of them are 0 there is nothing to tell the tokens apart, and every one weighs 1.
        """
        mean = weights.float().mean()
        even = torch.where(mean > 0, weights.float() / mean, torch.ones_like(weights, dtype=torch.float32))
        placed = torch.zeros_like(self.loss)
        placed[self.valid] = even.to(placed.dtype)
        return placed

    def draw(self, seed: int) -> torch.Generator:
        """A generator that the valid tokens and a seed decide on, whatever stands around them."""
        tokens = self.targets[self.valid].cpu().to(torch.int64).numpy().tobytes()
        digest = hashlib.sha256(seed.to_bytes(8, "little") + tokens).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


# Weighs a batch: `weights`, and whatever figures the scorer has besides.
Run = Callable[[TokenBatch], dict[str, Tensor]]


@dataclass(frozen=True)
class Scorer:
    """A way to weigh tokens.

    setup : a `Run`, given the settings. Its weights are finite, not negative, and their mean over valid tokens is 1.
    """

    key: str
    category: Literal["reference", "critic", "combined", "control"]
    version: str
    setup: Callable[[ScorerSettings], Run]
    needs: frozenset[Need] = frozenset()
