"""The settings: every mistake is named with its line and what would be right; a dump loads to the same settings."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from cedkv.config import (
    Config,
    TrainingConfig,
    choices,
    dump_config,
    leaves,
    load_config,
    load_training_config,
    parse_config,
    setting,
)
from cedkv.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def refusal(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "my.yaml", overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def schema_paths(block: type[BaseModel] = Config, path: str = "") -> Iterator[str]:
    """The dotted path of every setting, from the classes."""
    for name, field in block.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from schema_paths(field.annotation, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def test_nothing_given_is_the_defaults():
    assert parse_config("", "my.yaml") == load_config() == Config()


def test_what_is_given_replaces_the_default_and_nothing_else():
    config = parse_config("phase2:\n  select:\n    mode: random_span\n", "my.yaml")
    assert config.phase2.select.mode == "random_span"
    changed = config.model_dump()
    changed["phase2"]["select"]["mode"] = Config().phase2.select.mode
    assert changed == Config().model_dump()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phase2:\n  selct: {}", "my.yaml line 2: 'phase2.selct' is not a setting; did you mean 'select'?"),
        (
            "phase2:\n  select:\n    span: 3",
            "my.yaml line 3: 'phase2.select.span' is not a setting; did you mean 'span_len'?",
        ),
        ("\n\nepisod: {}", "my.yaml line 3: 'episod' is not a setting; did you mean 'episode'?"),
    ],
)
def test_unknown_key_is_named_with_its_line_and_the_nearest(text, message):
    assert refusal(text) == message


def test_unknown_key_like_no_other_is_named_with_those_there_are():
    message = refusal("phase2: {model: {zzzz: 1}}")
    assert message == "my.yaml line 1: 'phase2.model.zzzz' is not a setting; known here: id"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "phase2:\n\n  prefix_len: 0",
            "my.yaml line 3: phase2.prefix_len = 0: input should be greater than or equal to 1",
        ),
        (
            "phase2: {prefix_len: 513}",
            "my.yaml line 1: phase2.prefix_len = 513: input should be less than or equal to 512",
        ),
        ("phase2: {seed: -1}", "my.yaml line 1: phase2.seed = -1: input should be greater than or equal to 0"),
        ("phase2: {seed: 0.5}", "my.yaml line 1: phase2.seed = 0.5: input should be a valid integer"),
        ("phase2: {prefix_len: '8'}", "my.yaml line 1: phase2.prefix_len = '8': input should be a valid integer"),
        ("phase3: {slots: true}", "my.yaml line 1: phase3.slots = True: input should be a valid integer"),
        ("episode: {task: 3}", "my.yaml line 1: episode.task = 3: input should be a valid string"),
        ("episode: {demos: many}", "my.yaml line 1: episode.demos = 'many': input should be a valid integer"),
        ("phase2: {eval: {repro_runs: 1}}", "phase2.eval.repro_runs = 1: input should be greater than or equal to 2"),
        (
            "phase2: {runtime: {device: tpu}}",
            "phase2.runtime.device = 'tpu': input should be 'auto', 'cpu', 'cuda' or 'mps'",
        ),
        ("phase2: {runtime: {backend: mock}}", "my.yaml line 1: phase2.runtime.backend = 'mock': input should be 'hf'"),
        ("phase2: {layer_scope: {injection: 3}}", "my.yaml line 1: phase2.layer_scope.injection = 3: input should be"),
        ("phase2: {layer_scope: {selection: [0, a]}}", "my.yaml line 1: phase2.layer_scope.selection = [0, 'a']"),
        ("phase2:", "my.yaml line 1: phase2 = None: a block of settings belongs here"),
    ],
)
def test_value_out_of_range_is_named_with_its_line(text, message):
    assert message in refusal(text)


def test_only_the_first_mistake_is_told_and_the_others_are_counted():
    assert refusal("episode:\n  demos: 0\nphase2:\n  seed: -1\n  prefix_len: 0").endswith("(and 2 more)")


def test_a_long_value_is_cut():
    assert len(refusal(f"phase2: {{seed: '{'x' * 5000}'}}")) < 200


def test_mock_fallback_is_refused():
    message = refusal("phase2:\n  runtime:\n    allow_mock_fallback: true")
    assert "allow_mock_fallback: true is refused, there is no mock model; set it to false" in message
    assert parse_config("phase2: {runtime: {allow_mock_fallback: false}}", "my.yaml") == Config()


@pytest.mark.parametrize("scope", ["all", "top25", "last_8", [0, 3, -1]])
def test_layer_scopes_are_words_or_lists(scope):
    config = parse_config(f"phase2: {{layer_scope: {{injection: {scope}}}}}", "my.yaml")
    assert config.phase2.layer_scope.injection == scope


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b", "my.yaml: the top level must be a mapping of settings, not list"),
        ("just words", "my.yaml: the top level must be a mapping of settings, not str"),
        ("episode: {}\nphase2: [", "my.yaml line 2: not valid YAML: "),
        ("phase2: !!python/object:os.system {}", "my.yaml line 1: not valid YAML: could not determine a constructor"),
        ("phase2: {seed: 2001-99-99}", "my.yaml: not valid YAML: month must be in 1..12"),
        ("phase2: \x01", "my.yaml: not valid YAML: unacceptable character"),
        ("[" * 5000, "my.yaml: not valid YAML: maximum recursion depth exceeded"),
    ],
)
def test_what_is_not_yaml_is_said_so(text, message):
    assert refusal(text).startswith(message)


def test_file_that_cannot_be_read_is_named(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none.yaml", tmp_path, binary):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load_config(path)
        assert repr(str(path)) in str(caught.value)


def test_file_is_named_in_errors(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("phase2:\n  sed: 1", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path} line 2: 'phase2.sed' is not a setting; did you mean 'seed'?"


def test_overrides_come_after_the_file_and_in_order(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("phase2:\n  seed: 1\n  prefix_len: 4", encoding="utf-8")
    overrides = ["phase2.seed=2", "phase2.seed=3", "phase2.select.mode=random_span", "episode.pasted_inputs=[a, b]"]
    config = load_config(path, overrides)
    assert (config.phase2.seed, config.phase2.prefix_len, config.phase2.select.mode) == (3, 4, "random_span")
    assert config.episode.pasted_inputs == ("a", "b")


def test_an_override_may_hold_an_equals_sign_and_a_template():
    config = parse_config("", "my.yaml", ["episode.template='{input} = {output}'"])
    assert config.episode.template == "{input} = {output}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("phase2.seed", "--set 'phase2.seed' has no '='; write a.b=value"),
        ("phase2.seed.x=1", "--set 'phase2.seed.x=1': 'seed' is a value, not a block of settings"),
        ("phase2.seed=[", "--set 'phase2.seed=[': the value is not valid YAML"),
        ("phase2.seed=2001-99-99", "--set 'phase2.seed=2001-99-99': the value is not valid YAML"),
        ("phase2.sed=1", "my.yaml: 'phase2.sed' is not a setting; did you mean 'seed'?"),
        ("phase2.prefix_len=0", "my.yaml: phase2.prefix_len = 0: input should be greater than or equal to 1"),
    ],
)
def test_wrong_override_is_named(override, message):
    assert refusal("phase2: {seed: 1}", override) == message


def test_dump_loads_to_the_same_settings():
    overrides = [
        "phase2.layer_scope.injection=[0, -1]",
        "phase2.thresholds.on_gain_min=0.25",
        "episode.task_file=pairs é.json",
        "episode.template='{input} → {output}\\n'",
        "episode.pasted_inputs=[one, 'two, three']",
    ]
    for config in (Config(), parse_config("", "my.yaml", overrides)):
        assert parse_config(dump_config(config), "my.yaml") == config


def test_dump_names_every_setting():
    assert [path for path, _ in leaves(yaml.safe_load(dump_config(Config())))] == list(schema_paths())


@pytest.mark.parametrize("path", list(schema_paths()))
def test_every_setting_has_a_description(path):
    assert setting(path).description.endswith(".")


def test_choices_are_the_words_a_setting_takes():
    assert choices("phase2.prefix.padding_mode") == ["null_pad", "shrink_to_selected"]
    for word in choices("phase2.select.mode"):
        assert parse_config(f"phase2: {{select: {{mode: {word}}}}}", "my.yaml").phase2.select.mode == word


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        Config().phase2.seed = 3


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_load(path):
    load, schema = (load_training_config, TrainingConfig) if path.parent.name == "wmtp" else (load_config, Config)
    assert isinstance(load(path), schema)


def test_settings_of_trainings_are_no_settings_of_gates():
    path = ROOT / "configs" / "wmtp" / "rho1.yaml"
    with pytest.raises(ConfigError, match="'train' is not a setting"):
        load_config(path)
    with pytest.raises(ConfigError, match="'train.alg' is not a setting; did you mean 'algo'"):
        load_training_config(path, ["train.alg=ntp"])
