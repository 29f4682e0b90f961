"""Demonstrations of a session: those that a task draws, and others as a file, which the session's configs name."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cedkv.config import Config
from cedkv.episodes import (
    CHATS,
    DEFAULT_TASK,
    FORMATS,
    TEMPLATES,
    demos_in,
    draw_demos,
    load_task,
    parse_demos,
    read_demos,
    template_for,
)
from cedkv.errors import DemoError
from cedkv.files import write_whole
from cedkv.lm import LanguageModel
from cedkv.session.runs import Run, RunError
from cedkv.state import KVPrefix


def task_of(config: Config) -> str:
    """The task that a config without a demonstrations file draws from."""
    return config.episode.task or DEFAULT_TASK


def task_demos(config: Config) -> list[tuple[str, str]]:
    """The demonstrations that `episode_from_config` draws from the config's task."""
    drawn, _ = draw_demos(load_task(task_of(config)).pairs, config.episode.demos, config.run.seed)
    return drawn


def as_asked(config: Config) -> tuple[list[tuple[str, str]], Config]:
    """The demonstrations that a run with this config is on, and the config without the file that may hold them.

    Raises
    ------
    DemoError
        The file that it names is no longer there, or holds none.
    """
    file, plain = config.episode.demos_file, with_episode(config, demos_file=None, demos_format=None)
    if file is None:
        return task_demos(config), plain
    return [(demo.input, demo.output) for demo in read_demos(file, config.episode.demos_format).pairs], plain


def forms() -> tuple[list[str], list[tuple[str, str]]]:
    """The names of templates, and what demonstrations may be pasted as: how a face calls it, and its name."""
    return [*TEMPLATES, *CHATS], [(form.label, name) for name, form in FORMATS.items()]


def with_demos(config: Config, demos: Sequence[tuple[str, str]], own: bool, folder: Path) -> Config:
    """The config of a run on these demonstrations; edited or `own` ones become a file in the folder.

    Raises
    ------
    DemoError
        They cannot be demonstrations.
    """
    # The table of a page that is just opening, or that a user has emptied, stands for what the task draws.
    if not own and (not demos or list(demos) == task_demos(config)):
        return config
    path = keep_demos(folder, demos)
    episode = config.episode.model_dump(exclude_unset=True, exclude={"demos_format"} | ({"task"} if own else set()))
    kept = {name: value for name, value in config.model_dump(exclude_unset=True).items() if name != "episode"}
    return Config.model_validate({**kept, "episode": {**episode, "demos_file": str(path)}})


def keep_demos(folder: Path, demos: Sequence[tuple[str, str]]) -> Path:
    """Write them into the folder, named after their content because earlier runs still name theirs.

    Raises
    ------
    DemoError
        They cannot be demonstrations.
    """
    lines = "".join(json.dumps({"input": x, "output": y}, ensure_ascii=False) + "\n" for x, y in demos)
    parse_demos(lines)
    path = folder / f"demonstrations-{hashlib.sha256(lines.encode()).hexdigest()[:8]}.jsonl"
    write_whole(path, lines)
    return path


def with_demos_of(states: Iterable[KVPrefix], config: Config, lm: LanguageModel, folder: Path) -> Config | None:
    """The config with the demonstrations that a state's own tokens tell, as a file in the folder; None if none does."""
    for state in states:
        if state.mixture and (demos := demos_in(lm, state.mixture.tokens, template_for(lm, config.episode.template))):
            with suppress(DemoError):  # a task's file may hold what is no file of demonstrations, as an input twice
                path = keep_demos(folder, [(demo.input, demo.output) for demo in demos])
                return with_episode(config, demos_file=str(path))
    return None


def check_at_hand(run: Run) -> None:
    """Refuse to go on from a run's settings where these no longer say what its demonstrations were.

    Raises
    ------
    RunError
        It was opened without the file that they came from, and no state of it tells them.
    """
    if run.report["episode"].get("demos_lost"):
        raise RunError(
            f"the demonstrations of run {run.id!r} came from a file that is not here, and no state of it tells them; "
            "paste them as your own and run it again"
        )


def with_episode(config: Config, **changes: Any) -> Config:
    """The config with some of its episode's settings changed, which must be valid."""
    return config.model_copy(update={"episode": config.episode.model_copy(update=changes)})
