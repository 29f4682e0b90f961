"""How many slots, and how loud? Chunked states of several sizes and weights on the same queries and texts.

They are in closed form, so all of them cost about what one comparison does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cedkv.calibration import iter_calibration
from cedkv.config import Config
from cedkv.episodes import episode_from_config
from cedkv.errors import ConfigError
from cedkv.evaluation import Judge
from cedkv.events import Done, Progress
from cedkv.lm import LanguageModel
from cedkv.methods import Workbench, run_method
from cedkv.methods.chunked import closed_form
from cedkv.metrics import kl
from cedkv.session.demonstrations import with_episode
from cedkv.state import KVPrefix

SIZES = (1, 2, 4, 8, 16)
# What `phase3.chunked.weight` is set to for the size that is asked for: 0 counts a slot once, 1 as all of its tokens.
WEIGHTS = (0.0, 0.4, 0.6, 0.8, 1.0)
_QUERIES, _TEXTS = 16, 24
# Queries that Select-KV looks at: as many as it ever does.
_TRAIN = 32


@dataclass(frozen=True)
class Point:
    """What a state does: share of first tokens that are right, mean KL(teacher || state) on the same queries, and p99
    of Delta on stress texts, nats."""

    accuracy: float
    kl: float
    off: float


@dataclass(frozen=True)
class Strip:
    """States by (slots, weight) as far as they are measured, on the same queries and texts as the yardsticks.

    config : what was measured: demonstrations, model and all other settings of the states.
    slots, weight : its own, from which every state differs in at most one of the two.
    places : all (slots, weight) that are asked for.
    gold : `labels`, or `teacher` where the teacher's own answers are taken for right.
    """

    config: Config
    slots: int
    weight: float
    queries: int
    texts: int
    gold: str
    places: tuple[tuple[int, float], ...]
    points: dict[tuple[int, float], Point] = field(default_factory=dict)
    yardsticks: dict[str, Point] = field(default_factory=dict)
    done: bool = False

    def place_of(self, config: Config) -> tuple[int, float] | None:
        """Where the chunked state of a config stands; None where it is of other demonstrations or another model."""
        same = (config.episode, config.run) == (self.config.episode, self.config.run)
        return (config.phase3.slots, config.phase3.chunked.weight) if same else None

    def config_at(self, slots: int, weight: float) -> Config:
        """The config of the chunked state that a point stands for.

        Raises
        ------
        ConfigError
            There is no such point: what was measured is within the limits, anything else need not be.
        """
        if (slots, weight) not in self.points:
            raise ConfigError(f"{slots} slots at weight {weight:g} were not measured; choose a point that is drawn")
        phase3 = self.config.phase3
        chunked = phase3.chunked.model_copy(update={"weight": weight})
        phase3 = phase3.model_copy(update={"slots": slots, "chunked": chunked})
        return self.config.model_copy(update={"phase3": phase3})

    def sizes(self) -> list[tuple[int, float]]:
        """The places of every number of slots at the present weight."""
        return sorted(place for place in self.places if place[1] == self.weight)

    def weights(self) -> list[tuple[int, float]]:
        """The places of every weight with the present number of slots."""
        return sorted(place for place in self.places if place[0] == self.slots)


def iter_strip(lm: LanguageModel, config: Config) -> Iterator[Strip | Progress]:
    """The strip as it grows: the demonstrations, states of every size, every weight, and Select-KV last.

    A model that has to be calibrated first is said to be.
    """
    given, config = config, _quick(config)
    slots, weight = config.phase3.slots, config.phase3.chunked.weight
    episode = episode_from_config(lm, config)
    bench = Workbench(lm, episode, config)
    yield from iter_calibration(bench.lm)
    judge = Judge(lm, episode, bench.teacher, {"stress": episode.off_set("stress", _TEXTS)})
    asked = [*((size, weight) for size in sorted({*SIZES, slots})), *((slots, dial) for dial in WEIGHTS)]
    strip = Strip(given, slots, weight, len(episode.on_eval), _TEXTS, episode.gold, tuple(dict.fromkeys(asked)))
    strip = replace(strip, yardsticks={"teacher": _measured(judge, bench.teacher)})
    yield strip
    for place in strip.places:
        strip = replace(strip, points={**strip.points, place: _measured(judge, closed_form(bench, *place))})
        yield strip
    for event in run_method("select", bench, slots):
        if isinstance(event, Done):
            select = _measured(judge, event.result.prefix)
            yield replace(strip, yardsticks={**strip.yardsticks, "select": select}, done=True)


def _quick(config: Config) -> Config:
    """The same episode with few queries."""
    few = config.phase2.eval.model_copy(update={"on_samples": min(config.phase2.eval.on_samples, _QUERIES)})
    fewer = with_episode(config, on_train=min(config.episode.on_train, _TRAIN))
    return fewer.model_copy(update={"phase2": config.phase2.model_copy(update={"eval": few})})


def _measured(judge: Judge, prefix: KVPrefix) -> Point:
    view = judge.on_view(prefix)
    off = judge.off_scores(judge.delta_off(prefix, "stress"), "stress")
    return Point(view.accuracy, kl(judge.teacher_on.first, view.first).mean().item(), off["delta_p99"])
