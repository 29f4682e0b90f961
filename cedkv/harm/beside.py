"""Reading texts once alone and once behind each of several prefixes: what all measures of harm do."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cedkv.config import HarmSettings
from cedkv.episodes import Episode
from cedkv.errors import NonFiniteError
from cedkv.events import Progress
from cedkv.lm import LanguageModel, iter_log_probs, log_probs
from cedkv.report import ChoiceScores, ContinuedScores, OffScores
from cedkv.state import KVPrefix

Figures = OffScores | ContinuedScores | ChoiceScores
Views = Mapping[str, KVPrefix | None]


@dataclass(frozen=True)
class Asked:
    """What a measure is asked about: a model, the episode that the prefixes are of, and how much to read."""

    lm: LanguageModel
    episode: Episode
    settings: HarmSettings


# Figures by the view's name. All views are read in one go, so the base is read once and nothing is kept of it.
Measure = Callable[[Asked, Views], Generator[Progress, None, Mapping[str, Figures]]]


def beside_base(
    lm: LanguageModel, texts: Sequence[Sequence[int]], views: Views, reads: Sequence[int] | None = None
) -> Iterator[tuple[slice, Float[Tensor, "reads vocab"], dict[str, Float[Tensor, "reads vocab"]]]]:
    """Pack by pack: which texts, the base's log-probabilities (fp32, nats) and each view's, rows as `log_probs` has."""
    for part, base in iter_log_probs(lm, texts, None, reads):
        read = reads and reads[part]
        yield part, base, {name: log_probs(lm, texts[part], view, read) for name, view in views.items()}


def require_finite(delta: Float[Tensor, " reads"], what: str) -> None:
    """Raise `NonFiniteError` where the model's answers are no numbers, as half precision can make them."""
    if not delta.isfinite().all():
        raise NonFiniteError(f"Delta on {what} is not finite; judge with runtime.torch_dtype: float32")
