"""The limits of a deployment, in one place, each with its message."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter
from pathlib import Path

from cedkv.config import Config, EpisodeSettings
from cedkv.errors import CedKVError


class LimitError(CedKVError):
    """A request is larger than this deployment allows."""


@dataclass(frozen=True)
class Limits:
    """What one user may ask for. Zero seconds or sessions never happen: every limit is positive.

    settings : the most that a setting may be, by its path, or how many entries it may have; for the others the
        schema's own bounds do.
    models : ids that may be loaded; None allows any.
    allow_paths : whether a path typed by a user may be opened.
    keep_runs : whether run folders stay on disk when their session ends.
    assistants : whether the endpoints are tools of assistants too (MCP), who all share one session.
    """

    demos: int = 200
    demo_chars: int = 200_000
    query_chars: int = 4_000
    slots: int = 512
    run_seconds: int = 24 * 3600
    queue: int = 32
    upload_mb: int = 64
    sessions: int = 64
    runs_per_session: int = 50
    settings: Mapping[str, int] = field(default_factory=dict)
    models: tuple[str, ...] | None = None
    allow_paths: bool = True
    keep_runs: bool = True
    assistants: bool = True

    def check_demos(self, count: int, characters: int) -> None:
        _at_most("demonstrations", count, self.demos, "use fewer")
        _at_most("characters of demonstrations", characters, self.demo_chars, "use shorter ones")

    def check_query(self, text: str) -> None:
        _at_most("characters in the query", len(text), self.query_chars, "ask something shorter")

    def check_upload(self, path: Path) -> None:
        size = path.stat().st_size
        if size > self.upload_mb * 1_000_000:
            raise LimitError(f"{path.name!r} has {size / 1e6:.1f} MB; this deployment takes {self.upload_mb} MB")

    def check_config(self, config: Config) -> None:
        """Raise LimitError naming the first setting that asks for more than is allowed here."""
        _at_most("slots (phase2.prefix_len)", config.phase2.prefix_len, self.slots, "use fewer")
        _at_most("slots (phase3.slots)", config.phase3.slots, self.slots, "use fewer")
        for path, most in self.settings.items():
            value = attrgetter(path)(config)
            if value is not None:
                _at_most(path, len(value) if isinstance(value, tuple) else value, most, "ask for less")
        self._check_queries(config.episode)
        self.check_model(config.run.model.id)
        self._check_paths(config)

    def _check_queries(self, episode: EpisodeSettings) -> None:
        """A few entries can be as long as many."""
        pairs = sum(map(len, chain.from_iterable(episode.test_pairs)))
        _at_most(
            "characters of pasted inputs", sum(map(len, episode.pasted_inputs)), self.demo_chars, "use shorter ones"
        )
        _at_most("characters of test pairs", pairs, self.demo_chars, "use shorter ones")

    def check_model(self, id: str) -> None:
        if self.models is not None and id not in self.models:
            raise LimitError(f"model {id!r} is not offered here; choose one of {', '.join(self.models)}")

    def _check_paths(self, config: Config) -> None:
        if self.allow_paths:
            return
        for name in ("episode.task_file", "episode.demos_file"):
            if (value := attrgetter(name)(config)) is not None:
                raise LimitError(
                    f"{name} = {value!r}: this deployment opens no paths; paste the demonstrations instead"
                )
        for name in ("phase3.amortised.extractor", "phase3.pair_log"):
            if (value := attrgetter(name)(config)) is not None:
                raise LimitError(f"{name} = {value!r}: this deployment opens no paths; leave it out")


# What decides how long a run takes and how much memory it needs; smoke.yaml, mid.yaml and base.yaml fit.
_PUBLIC_SETTINGS = {
    "episode.on_train": 128,
    "episode.pasted_inputs": 128,
    "episode.test_pairs": 128,
    "phase2.eval.on_samples": 64,
    "phase2.eval.off_samples": 256,
    "phase2.eval.repro_runs": 3,
    "phase2.eval.n_random_trials": 10,
    "phase2.eval.answer_tokens": 32,
    "phase3.optim.steps": 200,
    "phase3.optim.extend_to": 200,
    "phase3.amortised.refine_steps": 200,
    "phase3.optim.matching_iterations": 240,
    "phase3.optim.matching_queries": 64,
    "phase3.optim.made_up_queries": 256,
    "phase3.optim.matching_off_texts": 64,
    "phase3.optim.on_batch": 16,
    "phase3.optim.off_batch": 16,
    "phase3.optim.off_reads": 8,
    "phase3.optim.topk_schedule": 16,
    "phase3.optim.tick_on_samples": 64,
    "phase3.optim.tick_stress_samples": 512,
    "phase3.off_data.stress_samples": 512,
    "phase3.off_data.pool_size": 128,
    "phase3.off_data.candidates": 128,
}

PUBLIC = Limits(
    demos=40,
    demo_chars=20_000,
    query_chars=1_000,
    slots=32,
    run_seconds=600,
    queue=16,
    upload_mb=16,
    sessions=32,
    runs_per_session=12,
    settings=_PUBLIC_SETTINGS,
    models=("embedded",),
    allow_paths=False,
    keep_runs=False,
    assistants=False,
)


def limits_from_environment() -> Limits:
    """The public limits on a Hugging Face Space or with CEDKV_PUBLIC=1, else those of one's own machine."""
    return PUBLIC if os.environ.get("SPACE_ID") or os.environ.get("CEDKV_PUBLIC") == "1" else Limits()


def _at_most(what: str, value: int, most: int, remedy: str) -> None:
    if value > most:
        raise LimitError(f"{value} {what}: this deployment allows {most}; {remedy}")
