"""The settings: every mistake is named with its line and what would be right; a dump loads to the same settings."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from cedkv.config import (
    Config,
    ExtractorConfig,
    GistConfig,
    SettingsMoved,
    SweepConfig,
    TrainingConfig,
    choices,
    dump_config,
    leaves,
    load_config,
    load_settings,
    load_sweep,
    parse_config,
    setting,
    settings_then,
    settings_today,
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
    message = refusal("run: {model: {zzzz: 1}}")
    assert message == "my.yaml line 1: 'run.model.zzzz' is not a setting; known here: id"


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
        ("run: {seed: -1}", "my.yaml line 1: run.seed = -1: input should be greater than or equal to 0"),
        ("run: {seed: 0.5}", "my.yaml line 1: run.seed = 0.5: input should be a valid integer"),
        ("phase2: {prefix_len: '8'}", "my.yaml line 1: phase2.prefix_len = '8': input should be a valid integer"),
        ("phase3: {slots: true}", "my.yaml line 1: phase3.slots = True: input should be a valid integer"),
        ("phase3: {dual: {target: true}}", "my.yaml line 1: phase3.dual.target = True: input should be a valid number"),
        ("phase3: {least: {weight: 0}}", "my.yaml line 1: phase3.least.weight = 0: input should be true or false"),
        (
            "phase3: {thresholds: {off_delta_p99_stress_max: .inf}}",
            "off_delta_p99_stress_max = inf: input should be a finite number",
        ),
        ("phase2: {thresholds: {on_gain_min: .nan}}", "on_gain_min = nan: input should be a finite number"),
        ("episode: {task: 3}", "my.yaml line 1: episode.task = 3: input should be a valid string"),
        ("episode: {demos: many}", "my.yaml line 1: episode.demos = 'many': input should be a valid integer"),
        ("phase2: {eval: {repro_runs: 1}}", "phase2.eval.repro_runs = 1: input should be greater than or equal to 2"),
        (
            "run: {runtime: {device: tpu}}",
            "run.runtime.device = 'tpu': input should be 'auto', 'cpu', 'cuda' or 'mps'",
        ),
        ("run: {runtime: {backend: mock}}", "my.yaml line 1: run.runtime.backend = 'mock': input should be 'hf'"),
        ("phase2: {layer_scope: {injection: 3}}", "my.yaml line 1: phase2.layer_scope.injection = 3: input should be"),
        ("phase2: {layer_scope: {selection: [0, a]}}", "my.yaml line 1: phase2.layer_scope.selection = [0, 'a']"),
        ("phase2:", "my.yaml line 1: phase2 = None: a block of settings belongs here"),
    ],
)
def test_value_out_of_range_is_named_with_its_line(text, message):
    assert message in refusal(text)


def test_only_the_first_mistake_is_told_and_the_others_are_counted():
    assert refusal("episode:\n  demos: 0\nrun:\n  seed: -1\nphase2:\n  prefix_len: 0").endswith("(and 2 more)")


def test_a_long_value_is_cut():
    assert len(refusal(f"run: {{seed: '{'x' * 5000}'}}")) < 200


def test_mock_fallback_is_refused():
    message = refusal("run:\n  runtime:\n    allow_mock_fallback: true")
    assert "allow_mock_fallback: true is refused, there is no mock model; set it to false" in message
    assert parse_config("run: {runtime: {allow_mock_fallback: false}}", "my.yaml") == Config()


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
        ("run: {seed: 2001-99-99}", "my.yaml: not valid YAML: month must be in 1..12"),
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
    path.write_text("run:\n  sed: 1", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path} line 2: 'run.sed' is not a setting; did you mean 'seed'?"


def test_overrides_come_after_the_file_and_in_order(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("run:\n  seed: 1\nphase2:\n  prefix_len: 4", encoding="utf-8")
    overrides = ["run.seed=2", "run.seed=3", "phase2.select.mode=random_span", "episode.pasted_inputs=[a, b]"]
    config = load_config(path, overrides)
    assert (config.run.seed, config.phase2.prefix_len, config.phase2.select.mode) == (3, 4, "random_span")
    assert config.episode.pasted_inputs == ("a", "b")


OLD = "phase2:\n  seed: 3\n  prefix_len: 4\n  model: {id: a/b}\n  runtime: {torch_dtype: bfloat16}\n"
TODAY = "phase2:\n  prefix_len: 4\nrun:\n  seed: 3\n  model: {id: a/b}\n  runtime: {torch_dtype: bfloat16}\n"


def test_the_paths_of_before_are_read_as_those_of_today_and_it_is_said_once():
    with pytest.warns(SettingsMoved) as told:
        config = parse_config(OLD, "my.yaml")
    assert config == parse_config(TODAY, "my.yaml")
    assert [str(note.message) for note in told] == [
        "my.yaml: phase2.model is run.model, phase2.runtime is run.runtime, phase2.seed is run.seed today; "
        "the old path still works"
    ]


def test_a_run_of_before_is_read_without_a_word(tmp_path):
    (tmp_path / "config.yaml").write_text(OLD, encoding="utf-8")
    assert load_config(tmp_path / "config.yaml", recorded=True) == parse_config(TODAY, "my.yaml")
    assert settings_today(yaml.safe_load(OLD)) == yaml.safe_load(TODAY)


def test_overrides_by_old_and_new_paths_are_one_setting(tmp_path):
    with pytest.warns(SettingsMoved, match="--set: phase2.model is run.model, phase2.seed is run.seed today"):
        config = parse_config(TODAY, "my.yaml", ["phase2.seed=5", "run.seed=6", "phase2.model.id=c"])
    assert (config.run.seed, config.run.model.id) == (6, "c")


def test_a_mixture_may_have_old_paths_too(tmp_path):
    (tmp_path / "mine.yaml").write_text(TODAY, encoding="utf-8")
    (tmp_path / "over.yaml").write_text("phase2: {seed: 9}", encoding="utf-8")
    with pytest.warns(SettingsMoved):
        assert load_config(tmp_path / "mine.yaml", mixture=tmp_path / "over.yaml").run.seed == 9


@pytest.mark.filterwarnings("ignore::cedkv.config.SettingsMoved")
def test_a_mistake_under_an_old_path_is_named_by_todays_with_its_line():
    assert refusal("phase2:\n  model: {zzzz: 1}").startswith("my.yaml line 2: 'run.model.zzzz' is not a setting")
    assert refusal("run: {seed: 1}\nphase2: {seed: 2}") == (
        "my.yaml: phase2.seed is run.seed today, and both are given; leave the first out"
    )
    assert refusal("run: 3\nphase2: {seed: 2}").startswith("my.yaml line 1: run = 3: a block of settings belongs here")


def test_an_override_may_hold_an_equals_sign_and_a_template():
    config = parse_config("", "my.yaml", ["episode.template='{input} = {output}'"])
    assert config.episode.template == "{input} = {output}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed", "--set 'run.seed' has no '='; write a.b=value"),
        ("run.seed.x=1", "--set 'run.seed.x=1': 'seed' is a value, not a block of settings"),
        ("run.seed=[", "--set 'run.seed=[': the value is not valid YAML"),
        ("run.seed=2001-99-99", "--set 'run.seed=2001-99-99': the value is not valid YAML"),
        ("run.sed=1", "my.yaml: 'run.sed' is not a setting; did you mean 'seed'?"),
        ("phase2.prefix_len=0", "my.yaml: phase2.prefix_len = 0: input should be greater than or equal to 1"),
    ],
)
def test_wrong_override_is_named(override, message):
    assert refusal("run: {seed: 1}", override) == message


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
        Config().run.seed = 3


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_shipped_configs_load(path):
    trainings = {"wmtp": TrainingConfig, "gist": GistConfig, "extractor": ExtractorConfig}
    if schema := trainings.get(path.parent.name):
        assert isinstance(load_settings(schema, path), schema)
    elif path.parent.name == "sweep":
        assert isinstance(load_sweep(path)[0], SweepConfig)
    else:
        assert isinstance(load_config(path), Config)


@pytest.mark.parametrize("name", ["mid", "full"])
def test_the_wider_gates_train_as_the_thorough_mixture_and_their_ticks_read_what_they_judge(name):
    gate, thorough = load_config(name).phase3, load_config(mixture="thorough").phase3
    assert (gate.loss, gate.least, gate.dual) == (thorough.loss, thorough.least, thorough.dual)
    assert gate.optim.steps == thorough.optim.steps != Config().phase3.optim.steps
    assert gate.optim.tick_stress_samples == gate.off_data.stress_samples


def test_a_mistake_is_told_of_the_file_it_is_in(tmp_path):
    """A mixture lies over it, and has no part in it."""
    mine, over = tmp_path / "mine.yaml", tmp_path / "over.yaml"
    mine.write_text("run: {seed: 1}\nphase3: {sluts: 4}")
    over.write_text("phase3:\n  optim:\n    steps: 0\n")
    with pytest.raises(ConfigError, match=rf"{mine} line 2: 'phase3.sluts' is not a setting"):
        load_config(mine, mixture="fast")
    with pytest.raises(ConfigError, match=rf"{over} line 3: phase3.optim.steps = 0"):
        load_config("smoke", mixture=over)


def test_a_block_that_is_there_twice_is_refused():
    assert refusal("phase3: {slots: 4}\nrun: {seed: 1}\nphase3: {optim: {steps: 3}}") == (
        "my.yaml line 3: 'phase3' is there twice; it is on line 1 already; put both into one"
    )
    assert refusal("run:\n  seed: 1\n  seed: 2").startswith("my.yaml line 3: 'run.seed' is there twice")


STANDING = "mixture: thorough\nphase3: {optim: {steps: 7}, off_data: {candidates: 70}}"


def test_a_file_stands_on_the_mixture_that_it_names_and_its_own_settings_hold(tmp_path):
    thorough = load_config(mixture="thorough")
    config = parse_config(STANDING, "my.yaml", ["phase3.dual.target=0.5"])
    assert config.phase3.loss == thorough.phase3.loss != Config().phase3.loss
    assert config.phase3.off_data.pool_size == thorough.phase3.off_data.pool_size != Config().phase3.off_data.pool_size
    assert (config.phase3.optim.steps, config.phase3.off_data.candidates, config.phase3.dual.target) == (7, 70, 0.5)
    assert parse_config(dump_config(config), "my.yaml") == config
    sweep = "base: mid\ntasks: [antonym]\nmethods: [ced]\ngrid: {phase3.slots: [8]}"
    (tmp_path / "sweep.yaml").write_text(sweep, encoding="utf-8")
    assert load_sweep(tmp_path / "sweep.yaml")[1][0].phase3 == load_config("mid").phase3


def test_a_mixture_laid_over_a_file_takes_the_place_of_the_one_it_stands_on(tmp_path):
    (tmp_path / "mine.yaml").write_text(STANDING, encoding="utf-8")
    config = load_config(tmp_path / "mine.yaml", mixture="fast")
    own = load_config(None, ["phase3.optim.steps=7", "phase3.off_data.candidates=70"], "fast")
    assert config.phase3 == own.phase3.model_copy(update={"optim": load_config(mixture="fast").phase3.optim})


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("run: {seed: 1}\nmixture: thoroug", "my.yaml line 2: mixture = 'thoroug'"),
        ("mixture: ../../secret", "my.yaml line 1: mixture = '../../secret'"),
        ("mixture: [thorough]", "my.yaml line 1: mixture = ['thorough']"),
        ("mixture:", "my.yaml line 1: mixture = None"),
        ("<<: {mixture: mine}", "my.yaml: mixture = 'mine'"),
    ],
)
def test_a_file_stands_on_no_mixture_but_one_that_ships(text, where):
    assert refusal(text).startswith(f"{where} does not ship; name one of default, delimiter_capped, fast")


def test_settings_of_trainings_are_no_settings_of_gates():
    path = ROOT / "configs" / "wmtp" / "rho1.yaml"
    with pytest.raises(ConfigError, match="'train' is not a setting"):
        load_config(path)
    with pytest.raises(ConfigError, match="'train.alg' is not a setting; did you mean 'algo'"):
        load_settings(TrainingConfig, path, ["train.alg=ntp"])


def test_settings_of_mixtures_are_refused_where_chunks_are_trained():
    with pytest.raises(ConfigError, match="mixture is for start: tokens; set phase3.start to tokens"):
        load_config(None, ["phase3.mixture.mix_mode=v_only"])
    assert (
        load_config(None, ["phase3.start=tokens", "phase3.mixture.mix_mode=v_only"]).phase3.mixture.mix_mode == "v_only"
    )


def test_files_from_before_may_leave_it_open_which_answer_tokens_are_matched():
    """A value that is gone is read as what is nearest to it, which is said; of a run that is over, without a word."""
    with pytest.warns(
        SettingsMoved, match="--set: phase3.loss.on_tokens: auto is all today; the old value still works"
    ):
        assert load_config(None, ["phase3.loss.on_tokens=auto"]).phase3.loss.on_tokens == "all"
    old = "phase3: {loss: {on_tokens: auto, lambda_on: 2.0}}"
    with pytest.warns(SettingsMoved, match="my.yaml: phase3.loss.on_tokens: auto is all today"):
        given = parse_config(old, "my.yaml").phase3.loss
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_config(old, "run", recorded=True).phase3.loss == given
    assert (given.on_tokens, given.lambda_on) == ("all", 2.0)
    with pytest.raises(ConfigError, match="'last': input should be 'all' or 'first'"):
        load_config(None, ["phase3.loss.on_tokens=last"])


def test_a_record_from_before_chunks_is_of_mixtures_of_tokens():
    then = settings_then({"phase3": {"slots": 4, "mixture": {"mix_mode": "v_only"}, "optim": {"steps": 9}}})
    config = Config.model_validate(then)
    assert (config.phase3.start, config.phase3.optim.off_reads, config.phase3.optim.steps) == ("tokens", 1, 9)
    recorded = load_config(None, ["phase3.slots=4"]).model_dump(mode="json")
    assert Config.model_validate(settings_then(recorded)).phase3.start == "chunks"
