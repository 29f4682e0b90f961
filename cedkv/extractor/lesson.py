"""What an extractor learns, step by step: on one episode a step, the teacher on ON queries, the base on OFF texts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cedkv.compressors.extractor import Extractor
from cedkv.config import ExtractorConfig
from cedkv.events import TrainingTick
from cedkv.extractor.episodes import LessonEpisode
from cedkv.lm import LanguageModel
from cedkv.methods.objective import batch_terms
from cedkv.optim.checkpoint import Memory
from cedkv.optim.loop import Losses, Measured, Objective, ParameterGroup
from cedkv.optim.schedule import batch_order

NAME = "extractor"


@dataclass
class ExtractorLesson(Objective):
    """L = KL(teacher || student) on ON queries + off_weight * CVaR of Delta on OFF texts, end to end.

    What a step is trained on is a function of its number alone: a training that goes on needs no memory of its draws.

    episodes : to train on. judged : those that say which state is best.
    pairs : how many trainings of single episodes the table started from.
    mean : the running mean of the numbers, which is what is measured and kept.
    ticks : the figures of every tick by its step.
    """

    lm: LanguageModel
    net: Extractor
    config: ExtractorConfig
    episodes: list[LessonEpisode]
    judged: list[LessonEpisode]
    pairs: int = 0
    name: str = NAME
    mean: dict[str, Tensor] = field(init=False)
    ticks: dict[int, dict[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mean = self._numbers()

    @property
    def remedy(self) -> str:
        return "lower the learning rates of training or use float32"

    @property
    def groups(self) -> Sequence[ParameterGroup]:
        rates = self.config.training
        tables = zip(self.net.tables, (rates.weight_lr, rates.gain_lr, rates.within_lr), strict=True)
        groups = [ParameterGroup([table], rate) for table, rate in tables]
        return [*groups, ParameterGroup(list(self.net.encoder()), rates.encoder_lr)] if rates.encoder_lr else groups

    def losses(self, step: int) -> Losses:
        training, seed = self.config.training, self.config.run.seed
        episode = self.episodes[batch_order(len(self.episodes), 1, step, seed)[0]]
        draw = random.Random(f"step {seed} {step}")
        queries, texts = range(len(episode.targets.ids)), episode.off
        on = episode.targets.rows(draw.sample(queries, min(training.on_batch, len(queries))))
        off = draw.sample(texts, min(training.off_batch, len(texts)))
        slots = episode.slots(self.net, draw.choice(self.config.data.slots))
        terms = batch_terms(episode.bench.trunk, slots, on, off, 0, training.tail_fraction)
        told = {name: terms[name] for name in ("L_on", "L_off")}
        return Losses(told, told["L_on"] + training.off_weight * told["L_off"])

    def updated(self, step: int) -> None:
        """Take the step into the running mean, which forgets its beginning sooner than its share says."""
        kept = min(self.config.training.averaged, (step + 1) / (step + 10))
        for name, number in self._numbers().items():
            self.mean[name].mul_(kept).add_(number, alpha=1 - kept)

    @torch.no_grad()
    def measure(self, step: int) -> Measured:
        """ON and OFF on the judged episodes, sizes by turns, in units of what is descended."""
        own = self._numbers()
        self.net.load_state_dict(self.mean)
        figures = [self._judged(episode, self.config.data.slots[number % len(self.config.data.slots)])
                   for number, episode in enumerate(self.judged)]  # fmt: skip
        self.net.load_state_dict(own)
        means = {name: sum(each[name] for each in figures) / len(figures) for name in figures[0]}
        value = means["kl_to_teacher"] + self.config.training.off_weight * means["off_delta"]
        self.ticks[step] = means
        return Measured(TrainingTick(NAME, step, value, means), value)

    def _judged(self, episode: LessonEpisode, asked: int | str) -> dict[str, float]:
        slots, trunk = episode.slots(self.net, asked), episode.bench.trunk
        terms = batch_terms(trunk, slots, episode.targets, episode.off, 0, self.config.training.tail_fraction)
        return {"kl_to_teacher": terms["L_on"].item(), "off_delta": terms["L_off"].item()}

    def state(self) -> dict[str, Tensor]:
        return {name: number.clone() for name, number in self.mean.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        self.net.load_state_dict(state)

    def memory(self) -> Memory:
        return Memory(self.mean, {"ticks": list(self.ticks.items())})

    def recall(self, memory: Memory) -> None:
        self.ticks = dict(memory.plain["ticks"])
        self.mean = {name: number.to(self.lm.device) for name, number in memory.tensors.items()}

    def _numbers(self) -> dict[str, Tensor]:
        return {name: number.detach().clone() for name, number in self.net.state_dict().items()}
