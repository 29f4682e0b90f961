"""What is measured of demonstrations without making a run of them."""

from collections.abc import Iterator, Sequence

from cedkv.config import Config
from cedkv.session.examine import Examination, iter_examine
from cedkv.session.models import ModelShelf
from cedkv.session.strip import Strip, at_place, iter_strip
from cedkv.session.turns import Turns


class Looks:
    """Each look gives way to short calls whenever it has found something."""

    at_place = staticmethod(at_place)

    def __init__(self, models: ModelShelf, turns: Turns) -> None:
        self._models, self._turns = models, turns

    def strip(self, config: Config) -> Iterator[Strip]:
        """Instant slots of several sizes and weights for a config's demonstrations, as they are measured."""
        return self._turns.parted(iter_strip(self._models.get(config), config))

    def examine(self, config: Config, demos: Sequence[tuple[str, str]]) -> Iterator[Examination]:
        """Demonstrations one by one, as far as is known."""
        return self._turns.parted(iter_examine(self._models.get(config), config, demos))
