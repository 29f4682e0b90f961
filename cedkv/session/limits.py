"""The limits of a deployment, in one place, each with its message."""

import os
from dataclasses import dataclass
from pathlib import Path

from cedkv.config import Config
from cedkv.errors import CedKVError


class LimitError(CedKVError):
    """A request is larger than this deployment allows."""


@dataclass(frozen=True)
class Limits:
    """What one user may ask for. Zero seconds or sessions never happen: every limit is positive.

    models : ids that may be loaded; None allows any.
    allow_paths : whether a path typed by a user may be opened.
    keep_runs : whether run folders stay on disk when their session ends.
    """

    demos: int = 200
    demo_chars: int = 200_000
    query_chars: int = 4_000
    slots: int = 512
    on_samples: int = 4096
    off_samples: int = 16384
    steps: int = 100_000
    run_seconds: int = 24 * 3600
    answer_tokens: int = 64
    queue: int = 32
    upload_mb: int = 64
    sessions: int = 64
    runs_per_session: int = 50
    models: tuple[str, ...] | None = None
    allow_paths: bool = True
    keep_runs: bool = True

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
        judged = config.phase2.eval
        _at_most("slots (phase2.prefix_len)", config.phase2.prefix_len, self.slots, "use fewer")
        _at_most("phase2.eval.on_samples", judged.on_samples, self.on_samples, "judge fewer queries")
        _at_most("phase2.eval.off_samples", judged.off_samples, self.off_samples, "judge fewer texts")
        for path, value in _training_sizes(config):
            _at_most(path, value, self.slots if path.endswith("slots") else self.steps, "train less")
        self._check_paths(config)

    def _check_paths(self, config: Config) -> None:
        model, episode = config.phase2.model.id, config.episode
        if self.models is not None and model not in self.models:
            raise LimitError(f"model {model!r} is not offered here; choose one of {', '.join(self.models)}")
        if self.allow_paths:
            return
        for name, value in (("episode.task_file", episode.task_file), ("episode.demos_file", episode.demos_file)):
            if value is not None:
                raise LimitError(
                    f"{name} = {value!r}: this deployment opens no paths; paste the demonstrations instead"
                )


PUBLIC = Limits(
    demos=40,
    demo_chars=20_000,
    query_chars=1_000,
    slots=32,
    on_samples=64,
    off_samples=256,
    steps=200,
    run_seconds=600,
    queue=16,
    upload_mb=16,
    sessions=32,
    runs_per_session=12,
    models=("embedded",),
    allow_paths=False,
    keep_runs=False,
)


def limits_from_environment() -> Limits:
    """The public limits on a Hugging Face Space or with CEDKV_PUBLIC=1, else those of one's own machine."""
    return PUBLIC if os.environ.get("SPACE_ID") or os.environ.get("CEDKV_PUBLIC") == "1" else Limits()


def _at_most(what: str, value: int, most: int, remedy: str) -> None:
    if value > most:
        raise LimitError(f"{value} {what}: this deployment allows {most}; {remedy}")


def _training_sizes(config: Config) -> list[tuple[str, int]]:
    """`steps` and `slots` of every block of settings that trains."""
    found = []
    for block in type(config).model_fields:
        settings = getattr(config, block)
        for name in type(settings).model_fields:
            inner = getattr(settings, name)
            leaves = {name: inner} if isinstance(inner, int) else {}
            if hasattr(type(inner), "model_fields"):
                leaves = {f"{name}.{leaf}": getattr(inner, leaf) for leaf in type(inner).model_fields}
            found += [(f"{block}.{leaf}", v) for leaf, v in leaves.items() if leaf.split(".")[-1] in ("steps", "slots")]
    return found
