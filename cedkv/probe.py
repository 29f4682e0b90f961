"""How far a prefix moves other text: the base is read once, then any number of prefixes."""

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from cedkv.errors import NonFiniteError
from cedkv.lm import LanguageModel, iter_log_probs, log_probs
from cedkv.metrics import kl
from cedkv.state import KVPrefix


class OffProbe:
    """Texts, and what the base says after each.

    name, remedy : of an answer that is no number: what it was on, and what a user can do.
    """

    def __init__(
        self,
        lm: LanguageModel,
        texts: Sequence[str],
        name: str = "OFF texts",
        remedy: str = "judge with runtime.torch_dtype: float32",
    ) -> None:
        self.lm, self.name, self.remedy = lm, name, remedy
        self.ids = [lm.encode(text) for text in texts]

    @cached_property
    def base(self) -> Float[Tensor, "texts vocab"]:
        """The base's next-token log-probabilities."""
        return log_probs(self.lm, self.ids)

    def delta(self, prefix: KVPrefix | None) -> Float[Tensor, " texts"]:
        """`Delta(u) = KL(student || base)` after every text, nats.

        Raises
        ------
        NonFiniteError
            The model's answers are no numbers, as half precision can make them.
        """
        # The base is read once; its own Delta is 0, or no number where its answers are none.
        delta = kl(self.base, self.base) if prefix is None else delta_of(self.lm, self.ids, self.base, prefix)
        if not delta.isfinite().all():
            raise NonFiniteError(f"Delta on the {self.name} is not finite; {self.remedy}")
        return delta


def delta_of(
    lm: LanguageModel, ids: Sequence[Sequence[int]], base: Float[Tensor, "texts vocab"], prefix: KVPrefix
) -> Float[Tensor, " texts"]:
    """`Delta` of texts whose base is known, pack by pack, finite or not."""
    return torch.cat([kl(rows, base[part]) for part, rows in iter_log_probs(lm, ids, prefix)])
