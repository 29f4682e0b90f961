"""What a weighted training says of itself: its weights, and how it does on held-out texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cedkv.errors import NonFiniteError
from cedkv.lm.heads import MTPWrapper
from cedkv.wmtp.data import Tokens

_QUANTILES = {"train/weight_p25": 0.25, "train/weight_p75": 0.75, "train/weight_p95": 0.95}
_JUDGED_TOGETHER = 8


def weight_figures(weights: Float[Tensor, " tokens"], extreme: float) -> dict[str, float]:
    """The weights of a step's valid tokens, as the scorer gave them.

    `rho1_usage_ratio` is the effective share of tokens, (sum w)^2 / (n sum w^2): of weights that keep or drop, the
    share kept (Kish 1965, Survey sampling). `nan_weights` and `extreme_weights` count.
    """
    finite = torch.isfinite(weights)
    sound = weights[finite].float()
    levels = {name: sound.quantile(level).item() if len(sound) else 0.0 for name, level in _QUANTILES.items()}
    square = (len(sound) * sound.square().sum()).item()
    return {
        **levels,
        "train/rho1_usage_ratio": sound.sum().square().item() / square if square else 0.0,
        "train/nan_weights": float((~finite).sum()),
        "train/extreme_weights": float((sound > extreme).sum()),
    }


def require_sound(figures: dict[str, float], step: int, extreme: float) -> None:
    """Raise `NonFiniteError` naming the step where weights are no numbers, or larger than any should be."""
    if figures["train/nan_weights"]:
        raise NonFiniteError(
            f"step {step}: nan_weights is {figures['train/nan_weights']:.0f}; the scorer's input is not finite, "
            "lower train.lr"
        )
    if figures["train/extreme_weights"]:
        raise NonFiniteError(
            f"step {step}: extreme_weights is {figures['train/extreme_weights']:.0f}, weights above {extreme:g}; "
            "raise train.weights.temperature or train.weights.share, or train.weights.extreme if that is meant"
        )


@dataclass(frozen=True)
class Judged:
    """Held-out texts, one entry each: tokens of its solution that are wrong, how many there are, and their loss."""

    kinds: list[str]
    wrong: list[int]
    important: list[int]
    loss: list[float]

    @property
    def accuracy(self) -> float:
        """The share of texts whose whole solution a greedy answer would give: no token of it is wrong."""
        return sum(wrong == 0 for wrong in self.wrong) / len(self.wrong)

    @property
    def important_token_error(self) -> float:
        """The share of all solutions' tokens that the model would not say, given those before."""
        return sum(self.wrong) / sum(self.important)

    def figures(self) -> dict[str, float]:
        return {
            "eval/accuracy": self.accuracy,
            "eval/important_token_error": self.important_token_error,
            "eval/important_token_loss": sum(self.loss) / sum(self.important),
        }


@torch.no_grad()
def judge(wrapper: MTPWrapper, texts: Sequence[Tokens], kinds: Sequence[str]) -> Judged:
    """Read every text with its solution and compare what the first head would say."""
    training = wrapper.training
    wrapper.eval()
    judged = Judged(list(kinds), [], [], [])
    for start in range(0, len(texts), _JUDGED_TOGETHER):
        part = texts[start : start + _JUDGED_TOGETHER]
        ids, mask = padded([text.ids for text in part], wrapper.model.device)
        first = min(text.solution for text in part) - 1
        logits = wrapper(ids, 1, attention_mask=mask, logits_to_keep=ids.shape[1] - first)[:, :, 0].float()
        for row, text in enumerate(part):
            rows = logits[row, text.solution - 1 - first : len(text.ids) - 1 - first].log_softmax(-1)
            gold = ids[row, text.solution : len(text.ids)]
            judged.wrong.append(int((rows.argmax(-1) != gold).sum()))
            judged.important.append(len(gold))
            judged.loss.append(-rows.gather(1, gold[:, None]).sum().item())
    wrapper.train(training)
    return judged


def padded(
    rows: Sequence[Sequence[int]], device: torch.device
) -> tuple[Int[Tensor, "rows tokens"], Int[Tensor, "rows tokens"]]:
    """Token ids filled up on the right with 0, and the mask that says which are real."""
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
    return ids.to(device), mask.long().to(device)
