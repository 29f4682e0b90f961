"""One task and seed, on which any method's prefix is judged beside the same references."""

from collections.abc import Sequence
from functools import cached_property
from typing import cast

from cedkv.config import Config
from cedkv.episodes import Episode, episode_from_config
from cedkv.evaluation import Judge
from cedkv.harm import YARDSTICKS, yardstick
from cedkv.lm import LanguageModel
from cedkv.methods import Extraction, Workbench, extract
from cedkv.methods.select import random_trial
from cedkv.state import KVPrefix

# What stands beside every method: no prefix, all demonstrations, and neutral ones.
REFERENCES = ("base", "teacher", *YARDSTICKS)
ON_FIGURES = ("accuracy", "whole_answer", "answer_logprob", "kl_to_teacher")
FIGURES = (*ON_FIGURES, "off_p99", "off_mean")


class TaskBench:
    """Everything is read when it is first asked for. The config is that of the references."""

    def __init__(self, lm: LanguageModel, config: Config) -> None:
        self.lm, self.config = lm, config

    @cached_property
    def episode(self) -> Episode:
        return episode_from_config(self.lm, self.config)

    @cached_property
    def workbench(self) -> Workbench:
        return Workbench(self.lm, self.episode, self.config)

    @cached_property
    def judge(self) -> Judge:
        stress = self.episode.off_set("stress", self.config.phase3.off_data.stress_samples)
        return Judge(self.lm, self.episode, self.workbench.teacher, {"stress": stress})

    def figures(self, prefixes: Sequence[KVPrefix | None]) -> dict[str, float]:
        """Means over the prefixes; harm is that of the first, as in the gate. `off_*` is `Delta` on stress texts."""
        scores = [cast(dict[str, float], self.judge.scores(prefix)) for prefix in prefixes]
        stress = self.judge.off_scores(self.judge.delta_off(prefixes[0], "stress"), "stress")
        means_of = {name: sum(row[name] for row in scores) / len(scores) for name in ON_FIGURES}
        return {**means_of, "off_p99": stress["delta_p99"], "off_mean": stress["delta_mean"]}

    def reference(self, name: str) -> KVPrefix | None:
        """The prefix of one of `REFERENCES`."""
        if name in YARDSTICKS:
            return yardstick(name, self.lm, len(self.episode.tokens))
        return self.workbench.teacher if name == "teacher" else None

    def random(self, slots: int, trials: int) -> list[KVPrefix]:
        """Random choices of the demonstrations' tokens."""
        return [random_trial(self.workbench, slots, trial) for trial in range(trials)]

    def extract(self, method: str, slots: int, config: Config) -> tuple[Extraction, Episode]:
        """What a method makes with its own settings, and the episode that it is made in.

        Its training queries may be others than the references'; the evaluation queries, drawn first, are the same.
        """
        episode = episode_from_config(self.lm, config)
        return extract(self.lm, episode, method, slots, config), episode
