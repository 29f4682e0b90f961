"""Widgets for settings, made from the config schema: type, bounds, choices and help come from there alone."""

import json
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import gradio as gr
import yaml

from cedkv.config import Config, leaves, setting

# Set by the setup rail itself, or meant for the command line only.
_ELSEWHERE = {
    "episode.task", "episode.task_file", "episode.demos_file", "episode.demos_format", "episode.demos",
    "episode.template", "episode.on_source", "episode.pasted_inputs", "episode.test_pairs", "run.runtime.backend",
    "run.runtime.allow_mock_fallback",
    "run.model.id", "phase2.prefix_len", "phase3.slots", "phase3.amortised.extractor", "phase3.pair_log",
}  # fmt: skip


# What a block of settings is for; one that is not here is called by its path.
_PURPOSES = {
    "episode": "training queries: how many",
    "run": "chance: the seed",
    "run.runtime": "where and how precisely the model runs",
    "phase2.eval": "judging: how many queries, texts and repeats",
    "phase2.prefix": "Select-KV: what fills empty slots",
    "phase2.injection": "where slots stand before the query",
    "phase2.select": "Select-KV: which tokens are copied",
    "phase2.layer_scope": "Select-KV: layers",
    "phase2.eval.harm": "judging: harm besides, on real text",
    "phase2.thresholds": "Select-KV: what its gate asks",
    "phase2.thresholds.harm": "Select-KV: what its gate asks about harm",
    "phase2.reporting": "reports",
    "phase3": "training: what it starts from",
    "phase3.chunked": "chunked slots: how much each counts",
    "phase3.amortised": "amortised slots: the extractor, and steps that go on from it",
    "phase3.least": "training of chunks: what it may change",
    "phase3.mixture": "mixtures of tokens: which may be mixed",
    "phase3.mixture.k_anchor": "mixtures of tokens: keys",
    "phase3.mixture.delimiter": "mixtures of tokens: delimiters",
    "phase3.layer_scope": "training: layers",
    "phase3.loss": "training: what it is asked for (losses)",
    "phase3.optim": "training: steps, rates and batches",
    "phase3.dual": "training: how hard harm is punished",
    "phase3.off_data": "training: texts that must stay as they were",
    "phase3.thresholds": "training: what its gate asks",
    "phase3.thresholds.harm": "training: what its gate asks about harm",
}


@dataclass(frozen=True)
class SettingsForm:
    """Widgets by the dotted path of their setting, in the accordions of their blocks."""

    widgets: dict[str, gr.components.Component]
    groups: dict[str, gr.Accordion]

    @property
    def paths(self) -> list[str]:
        return list(self.widgets)

    def components(self) -> list[gr.components.Component]:
        return list(self.widgets.values())

    def values(self, config: Config) -> list[Any]:
        """What the widgets show for a config."""
        return [shown(value_of(config, path)) for path in self.widgets]


def setting_paths() -> list[str]:
    """The dotted path of every setting, in the schema's order."""
    return [path for path, _ in leaves(Config().model_dump())]


def advanced_groups() -> dict[str, list[str]]:
    """The settings that have no place of their own in the rail, by the block they belong to."""
    groups: dict[str, list[str]] = {}
    for path in setting_paths():
        if path not in _ELSEWHERE:
            block = path.rpartition(".")[0]
            groups.setdefault(block, []).append(path)
    return groups


# Kinds of settings that are numbers, or empty.
_WHOLE = (int, int | None)
_NUMBERS = (*_WHOLE, float, float | None)


def setting_widget(path: str, config: Config) -> gr.components.Component:
    """The widget of one setting, as a config has it."""
    field = setting(path)
    common = {"label": label(path), "info": field.description, "value": shown(value_of(config, path))}
    kind, words = field.annotation, _words(field.annotation)
    if kind is bool:
        return gr.Checkbox(**common)
    if words and get_origin(kind) is Literal:
        return gr.Dropdown(choices=words, **common)
    if words:
        return gr.Dropdown(choices=words, allow_custom_value=True, **common)
    if kind in _NUMBERS:
        least, most = bound(path, "minimum"), bound(path, "maximum")
        return gr.Number(precision=0 if kind in _WHOLE else None, minimum=least, maximum=most, **common)
    return gr.Textbox(lines=1, **common)


def overrides(paths: list[str], values: list[Any]) -> list[str]:
    """`a.b=value` for what the widgets hold, as `parse_config` takes it.

    An emptied widget empties a setting that may be empty; any other then stays what it is without the widget.
    """
    return [
        f"{path}={_written(path, value)}"
        for path, value in zip(paths, values, strict=True)
        if value is not None or _may_be_empty(path)
    ]


def label(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")


def group_label(block: str) -> str:
    """A block of settings as a heading."""
    return _PURPOSES.get(block) or " · ".join(part.replace("_", " ") for part in block.split("."))


def matching(words: str) -> set[str]:
    """The paths of settings whose name, help or heading has all these words."""
    wanted = words.lower().split()
    told = {
        path: f"{path} {label(path)} {setting(path).description} {group_label(block)}".lower()
        for block, paths in advanced_groups().items()
        for path in paths
    }
    return {path for path, text in told.items() if all(word in text for word in wanted)}


def found_settings(form: SettingsForm, words: str) -> list[Any]:
    """Updates of the groups and of the widgets of a form after a search; no words show everything, folded."""
    found = matching(words)
    blocks = {path.rpartition(".")[0] for path in found}
    folds = [gr.Accordion(visible=block in blocks, open=bool(words.strip())) for block in form.groups]
    return [*folds, *(gr.update(visible=path in found or "hidden") for path in form.paths)]


def value_of(config: Config, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def shown(value: Any) -> Any:
    """A value as its widget holds it: lists are typed as YAML."""
    return yaml.safe_dump(value, default_flow_style=True).strip() if isinstance(value, (list, tuple)) else value


def typed_settings(config: Config) -> str:
    """The rail's YAML for a config, which leaves the task to its own widget."""
    return compact_yaml(without_task(config))


def without_task(config: Config) -> Config:
    return config.model_copy(update={"episode": config.episode.model_copy(update={"task": None})})


def compact_yaml(config: Config) -> str:
    """The settings that differ from the defaults, as YAML that gives the same config."""
    tree = config.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True) if tree else ""


_BOUNDS = {"minimum": ("ge", "gt"), "maximum": ("le", "lt")}


def bound(path: str, edge: Literal["minimum", "maximum"]) -> float | None:
    """The smallest or the largest value that the schema lets a setting have."""
    notes = setting(path).metadata
    found = (getattr(note, name, None) for note in notes for name in _BOUNDS[edge])
    return next((value for value in found if value is not None), None)


def _words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for part in get_args(annotation) if get_origin(part) is Literal for word in get_args(part)]


def _may_be_empty(path: str) -> bool:
    return type(None) in get_args(setting(path).annotation)


def _written(path: str, value: Any) -> str:
    """A value as YAML. Text typed for a setting that also takes lists is YAML already, which `parse_config` reads."""
    field = setting(path)
    if isinstance(value, str) and value.startswith("[") and get_origin(field.annotation) is not Literal:
        return value
    if value is None or (value == "" and _may_be_empty(path)):
        return "null"
    return json.dumps(int(value) if field.annotation in _WHOLE else value, ensure_ascii=False)
