"""What is measured of demonstrations, and of a run that is there, without making another."""

from collections.abc import Iterator, Sequence

from cedkv.config import Config
from cedkv.episodes import episode_from_config
from cedkv.events import Event, Progress
from cedkv.gate.diagnosis import Reach, iter_diagnosis
from cedkv.lm import LanguageModel
from cedkv.methods import Workbench
from cedkv.session.examine import Examination, iter_examine
from cedkv.session.models import ModelShelf
from cedkv.session.runs import Run
from cedkv.session.strip import Strip, iter_strip
from cedkv.session.turns import Turns
from cedkv.session.views import Weighed
from cedkv.session.weights import weigh_demonstrations, weigh_text

# Of a diagnosis on the page, where somebody waits: a third of the texts that the command reads.
_QUICK = Reach(queries=16, texts=24)


class Looks:
    """Each look gives way to short calls whenever it has found something."""

    def __init__(self, models: ModelShelf, turns: Turns) -> None:
        self._models, self._turns = models, turns

    def strip(self, config: Config) -> Iterator[Strip | Progress]:
        """Instant slots of several sizes and weights for a config's demonstrations, as they are measured."""
        return self._turns.parted(iter_strip(self._models.get(config), config))

    def diagnose(self, config: Config) -> Iterator[Event]:
        """What limits the slots of a config's demonstrations; the last event is `Done(Diagnosis)`."""
        return self._turns.parted(_iter_diagnose(self._models.get(config), config))

    def examine(self, config: Config, demos: Sequence[tuple[str, str]]) -> Iterator[Examination]:
        """Demonstrations one by one, as far as is known."""
        return self._turns.parted(iter_examine(self._models.get(config), config, demos))

    def weigh(self, run: Run, text: str = "") -> Weighed:
        """What every scorer of token weights says of a run's demonstrations and slots, or of a text."""
        with self._turns.short():
            lm = self._models.of(run)
            return weigh_text(lm, run, text) if text.strip() else weigh_demonstrations(lm, run.prefix(run.student))


def _iter_diagnose(lm: LanguageModel, config: Config) -> Iterator[Event]:
    """The episode belongs to the work: for want of labelled queries the model itself makes some up and answers them."""
    yield from iter_diagnosis(Workbench(lm, episode_from_config(lm, config), config), _QUICK)
