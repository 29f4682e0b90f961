"""The weight directions of a model, fitted on the neutral texts that all who ask for them share."""

from collections.abc import Iterator

from cedkv.episodes.off import calibration_texts
from cedkv.events import Progress
from cedkv.lm import LanguageModel
from cedkv.lm.weighing import WeightDirections, known_directions, weight_directions

# The stage as it is told: minutes on a busy machine.
CALIBRATING = "calibrating the weight directions of this model, once"


def model_directions(lm: LanguageModel) -> WeightDirections:
    """Along which the key of a slot carries its weight: those that ship or are kept, else fitted now."""
    return weight_directions(lm, calibration_texts())


def iter_calibration(lm: LanguageModel) -> Iterator[Progress]:
    """See to it that a model has its directions, and say so where they have to be fitted first."""
    if known_directions(lm, calibration_texts()) is None:
        yield Progress(CALIBRATING, 0, 1)
        model_directions(lm)
