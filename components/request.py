"""From what the rail holds to the config of a run, and back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cedkv.config import Config, parse_config
from components.settings import SettingsForm, compact_yaml, overrides
from components.setup import OWN

_PLAIN = {
    "episode.demos": "count",
    "episode.template": "template",
    "episode.on_source": "on_source",
    "phase2.prefix_len": "slots",
    "phase3.slots": "slots",
    "phase2.model.id": "model",
}


@dataclass(frozen=True)
class Request:
    """What a user asks for, checked against the schema."""

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
    """
    task, demos, count, template, on_source, pasted, method, slots, model, text, *rest = values
    plain = {"count": int(count), "template": template, "on_source": on_source, "slots": int(slots), "model": model}
    inputs = tuple(line.strip() for line in (pasted or "").splitlines() if line.strip())
    paths = [*_PLAIN, "episode.pasted_inputs", *form.paths]
    given = [*(plain[name] for name in _PLAIN.values()), list(inputs), *rest]
    own = task == OWN
    if not own:
        paths, given = ["episode.task", *paths], [task, *given]
    config = parse_config(text or "", "settings", overrides(paths, given))
    return Request(config, method, read_table(demos), own)


def read_table(rows: Sequence[Sequence[Any]] | None) -> list[tuple[str, str]]:
    """The demonstrations of the editable table; rows without any text are none."""
    pairs = [tuple("" if cell is None else str(cell).strip() for cell in row[:2]) for row in rows or []]
    return [pair for pair in pairs if any(pair)]


def shown_values(
    form: SettingsForm, config: Config, task: str, demos: Sequence[tuple[str, str]], method: str
) -> list[Any]:
    """The rail's values for a config: the inverse of `read_request`."""
    episode = config.episode
    return [
        task, [list(pair) for pair in demos], episode.demos, episode.template,
        episode.on_source, "\n".join(episode.pasted_inputs), method, config.phase2.prefix_len, config.phase2.model.id,
        compact_yaml(config), *form.values(config),
    ]  # fmt: skip
