"""The episodes that an extractor is trained on: relations, templates, demonstrations and sizes, by lot of one seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

from cedkv.compressors.extractor import Extractor, ExtractorSlots
from cedkv.config import (
    ChunkedSettings,
    Config,
    EpisodeSettings,
    EvalSettings,
    ExtractorConfig,
    Phase2Settings,
    Phase3Settings,
    RunSettings,
)
from cedkv.episodes import episode_from_config, load_task, task_names
from cedkv.episodes.off import OffText, off_stream
from cedkv.errors import ConfigError
from cedkv.lm import LanguageModel
from cedkv.methods.base import Workbench
from cedkv.methods.chunked import closed_form
from cedkv.methods.objective import OnTargets, on_targets
from cedkv.methods.pool import PooledText, read_base
from cedkv.slots.chunked import chunks_by_place
from cedkv.state import KVPrefix

# Of this bucket is every second OFF text: it decides the tail of the whole.
_NEAR = "near_format"


@dataclass(frozen=True)
class Drawn:
    """What says all of an episode."""

    task: str
    template: str
    demos: int
    seed: int


def tasks_of(config: ExtractorConfig) -> list[str]:
    """The tasks to train on, none of which judges or is held out.

    Raises
    ------
    DemoError
        A task that is named does not ship.
    ConfigError
        No task is left.
    """
    data = config.data
    for name in (*data.tasks, *data.judged_tasks, *data.held_out_tasks):
        load_task(name)
    apart, _ = data.not_trained_on
    left = [name for name in data.tasks or task_names() if name not in apart]
    if not left:
        raise ConfigError("data.judged_tasks and data.held_out_tasks name every task; leave some to train on")
    return left


def draw_episodes(config: ExtractorConfig) -> tuple[list[Drawn], list[Drawn]]:
    """The episodes to train on, and those that judge, of their own tasks and templates if there are any."""
    draw, data, tasks = random.Random(f"extractor {config.run.seed}"), config.data, tasks_of(config)
    train = _drawn(draw, tasks, data.templates, config, data.episodes)
    return train, _drawn(
        draw, list(data.judged_tasks) or tasks, data.judged_templates or data.templates, config, data.judged
    )


def _drawn(
    draw: random.Random, tasks: list[str], templates: Sequence[str], config: ExtractorConfig, count: int
) -> list[Drawn]:
    """A task's turn by turn, in an order by lot."""
    drawn: list[Drawn] = []
    while len(drawn) < count:
        for task in draw.sample(tasks, len(tasks)):
            drawn.append(Drawn(task, draw.choice(templates), draw.choice(config.data.demos), draw.randrange(2**31)))
    return drawn[:count]


@dataclass
class LessonEpisode:
    """An episode with what a training reads of it, each once: the teacher, the base, and the closed form."""

    lm: LanguageModel
    drawn: Drawn
    config: ExtractorConfig
    _closed: dict[int, KVPrefix] = field(default_factory=dict, repr=False)

    @cached_property
    def bench(self) -> Workbench:
        config = Config(
            episode=EpisodeSettings(
                task=self.drawn.task,
                template=self.drawn.template,
                demos=self.drawn.demos,
                on_train=self.config.data.queries,
            ),
            run=RunSettings(seed=self.drawn.seed, model=self.config.run.model, runtime=self.config.run.runtime),
            phase2=Phase2Settings(eval=EvalSettings(on_samples=1)),
            phase3=Phase3Settings(chunked=ChunkedSettings(weight=self.config.weight)),
        )
        return Workbench(self.lm, episode_from_config(self.lm, config), config)

    @cached_property
    def targets(self) -> OnTargets:
        return on_targets(self.bench)

    @cached_property
    def off(self) -> list[PooledText]:
        data = self.config.data
        return read_base(self.bench.trunk, list(islice(self._off_stream(), data.off_texts)), data.off_reads)

    def slots(self, net: Extractor, asked: int | str) -> ExtractorSlots:
        """The slots that an extractor makes of the episode; `places` are as many as the template has."""
        bench = self.bench
        count = len(chunks_by_place(bench.demo_kv.tokens)) if isinstance(asked, str) else asked
        if count not in self._closed:
            self._closed[count] = closed_form(bench, count, self.config.weight)
        return ExtractorSlots.of(net, self.lm, self._closed[count], bench.demo_kv, bench.directions)

    def _off_stream(self) -> Iterator[OffText]:
        episode = self.bench.episode
        near = off_stream("pool", episode.seed, episode.near, [_NEAR])
        others = (off for off in episode.pool_stream() if off.bucket != _NEAR)
        for pair in zip(near, others, strict=False):
            yield from pair
