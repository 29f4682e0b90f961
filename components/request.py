"""From what the rail holds to the config of a run, and back."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cedkv.config import Config, leaves, load_config, parse_config, setting
from components.settings import SettingsForm, compact_yaml, overrides, typed_settings, value_of, without_task
from components.setup import OWN, mixture_files

_PLAIN = {
    "episode.demos": "count",
    "episode.template": "template",
    "episode.on_source": "on_source",
    "phase2.prefix_len": "prefix_len",
    "phase3.slots": "slots",
    "run.model.id": "model",
}


@dataclass(frozen=True)
class Request:
    """What a user asks for, checked against the schema. With `own` demonstrations the config names no task."""

    config: Config
    method: str
    demos: list[tuple[str, str]]
    own: bool


def read_request(form: SettingsForm, values: Sequence[Any]) -> Request:
    """The request that the rail's values (`Setup.inputs`, in order) describe.

    Raises
    ------
    ConfigError
        A setting is out of range, or the YAML has a mistake, which is named with its line.
    DemoError
        The test pairs cannot be read.
    """
    task, demos, count, template, on_source, pasted, tests, method, prefix_len, slots, model, text, *rest = values
    plain = {
        "count": int(count), "template": template, "on_source": on_source, "prefix_len": int(prefix_len),
        "slots": int(slots), "model": model,
    }  # fmt: skip
    inputs = tuple(line.strip() for line in (pasted or "").splitlines() if line.strip())
    paths = [*_PLAIN, "episode.pasted_inputs", "episode.test_pairs", *form.paths]
    given = [*(plain[name] for name in _PLAIN.values()), list(inputs), _labelled(tests or ""), *rest]
    own = task == OWN
    if not own:
        paths, given = ["episode.task", *paths], [task, *given]
    config = parse_config(text or "", "settings", overrides(paths, given))
    return Request(without_task(config) if own else config, method, read_table(demos), own)


def _labelled(text: str) -> list[list[str]]:
    """Typed pairs in any format that demonstrations have."""
    if not text.strip():
        return []
    from cedkv.episodes import parse_demos  # brings torch, without which the page can be there

    return [[pair.input, pair.output] for pair in parse_demos(text)]


def read_table(rows: Sequence[Sequence[Any]] | None) -> list[tuple[str, str]]:
    """The demonstrations of the editable table; rows without any text are none."""
    pairs = [["" if cell is None else str(cell).strip() for cell in (*row, "", "")[:2]] for row in rows or []]
    return [(source, target) for source, target in pairs if source or target]


def demos_as_lines(demos: Sequence[tuple[str, str]]) -> str:
    """Pairs as text that is read as just these pairs."""
    return "".join(json.dumps({"input": x, "output": y}, ensure_ascii=False) + "\n" for x, y in demos)


def shown_values(
    form: SettingsForm, config: Config, task: str, demos: Sequence[tuple[str, str]], method: str
) -> list[Any]:
    """The rail's values for a config: the inverse of `read_request`."""
    episode = config.episode
    return [
        task, [list(pair) for pair in demos], episode.demos, episode.template,
        episode.on_source, "\n".join(episode.pasted_inputs), demos_as_lines(episode.test_pairs),
        method, config.phase2.prefix_len, config.phase3.slots, config.run.model.id,
        typed_settings(config), *form.values(config),
    ]  # fmt: skip


@cache
def _shipped_mixtures() -> dict[str, dict[str, Any]]:
    """What each mixture file sets, by dotted path."""
    return {
        name: dict(leaves(load_config(file).model_dump(exclude_unset=True))) for name, file in mixture_files().items()
    }


def with_mixture(config: Config, preset: str) -> Config:
    """The config with a shipped mixture laid over it; what another mixture has put there goes back to its default."""
    shipped = _shipped_mixtures()
    undone = {
        path: setting(path).get_default()
        for other in shipped.values()
        for path, value in other.items()
        if value_of(config, path) == value
    }
    laid = {**undone, **shipped[preset]}
    return parse_config(compact_yaml(config), "settings", overrides(list(laid), list(laid.values())))
