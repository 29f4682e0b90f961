"""Settings in the plan's keys, and what is refused by name."""

import pytest
import yaml

from cedkv.cli import main
from cedkv.compressors.gist.stages import iter_gist, shape_of
from cedkv.config import PRESETS, GistConfig, dump_config, load_settings
from cedkv.errors import ConfigError
from cedkv.events import drain

CONFIGS = PRESETS / "gist"


def test_load_experiment_config(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text(
        "model: {name: some/model}\nnum_gist_tokens: 10\nquantization: none\n"
        "training: {steps: 7, learning_rate: 0.01, batch_size: 2, gradient_accumulation_steps: 4, warmup_steps: 1}\n"
        "lora: {r: 8, alpha: 16, dropout: 0.1, target_modules: [q_proj, v_proj]}\n"
    )
    config = load_settings(GistConfig, file)
    assert (config.run.model.id, config.num_gist_tokens, config.training.steps) == ("some/model", 10, 7)
    shape = shape_of(config)
    assert (shape.tokens, shape.rank, shape.alpha, shape.dropout) == (10, 8, 16, 0.1)
    assert shape.targets == ("q_proj", "v_proj") and not shape.whole_embedding
    assert load_settings(GistConfig, file, ["run.model.id=other"]).run.model.id == "other"
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config))
    assert load_settings(GistConfig, again) == config


@pytest.mark.parametrize("count", [10, 25, 50])
def test_gist_count_variation(count):
    config = load_settings(GistConfig, CONFIGS / f"gist_{count}.yaml")
    assert config.num_gist_tokens == count == shape_of(config).tokens
    assert yaml.safe_load((CONFIGS / f"gist_{count}.yaml").read_text())["model"] == {"name": "embedded"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_gist_tokens=1", "num_gist_tokens = 1"),
        ("quantization=8bit", "quantization = '8bit'"),
        ("training.step=3", "did you mean 'steps'"),
        ("model={name: a, revision: b}", "model.revision is not a setting"),
    ],
)
def test_settings_that_cannot_be_are_named(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_settings(GistConfig, None, [setting])


def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, capsys):
    with pytest.raises(ConfigError, match="'4bit' .*; set it to none"):
        drain(iter_gist(GistConfig(quantization="4bit"), tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert main(["documents", "--adapter", str(tmp_path), "--views", "base", "nothing"]) == 2
    assert "view 'nothing' is unknown" in capsys.readouterr().err
