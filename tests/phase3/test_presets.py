"""The configs that ship: presets of three sizes, and mixtures that go on top of any of them."""

from pathlib import Path

import pytest
import yaml

import cedkv
from cedkv.config import PRESETS, Config, load_config, mixture_names, preset_names

CONFIGS = Path(__file__).parents[2] / "configs"
MIXTURES = sorted((CONFIGS / "mixtures").glob("*.yaml"))
SIZES = {"smoke": (8, 32, 128), "mid": (32, 128, 512), "full": (None, None, 2048)}


def flat(tree: dict, path: str = "") -> dict[str, object]:
    found = {}
    for key, value in tree.items():
        found |= flat(value, f"{path}{key}.") if isinstance(value, dict) else {path + key: value}
    return found


@pytest.mark.parametrize("name", ["smoke", "mid", "full", "base"])
def test_every_preset_loads(name):
    assert load_config(CONFIGS / f"{name}.yaml").episode.task == "present-past"


@pytest.mark.parametrize("name", SIZES)
def test_the_sizes_are_those_of_the_plan(name):
    config = load_config(CONFIGS / f"{name}.yaml")
    on, off, stress = SIZES[name]
    assert config.phase3.off_data.stress_samples == stress
    if on:
        assert (config.phase2.eval.on_samples, config.phase2.eval.off_samples) == (on, off)


def test_presets_and_mixtures_are_found_by_name():
    assert mixture_names() == [path.stem for path in MIXTURES]
    assert preset_names() == sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    assert {"default", "v_only", "per_layer"} <= set(mixture_names())
    for name in preset_names():
        assert load_config(name) == load_config(CONFIGS / f"{name}.yaml")


def test_what_ships_lies_in_the_package_so_that_a_wheel_carries_it():
    package = Path(cedkv.__file__).parent
    assert PRESETS.is_relative_to(package)
    carried = {path.resolve() for path in PRESETS.rglob("*.yaml")} | {p.resolve() for p in PRESETS.glob("*/*.yaml")}
    assert carried == {path.resolve() for path in CONFIGS.rglob("*.yaml")}


@pytest.mark.parametrize("path", MIXTURES, ids=lambda path: path.stem)
@pytest.mark.parametrize("preset", ["smoke", "mid", "full", "base"])
def test_every_mixture_applies_on_top_of_every_preset(path, preset):
    settings = flat(yaml.safe_load(path.read_text(encoding="utf-8")))
    assert settings, "a mixture changes something"
    assert all(name.startswith("phase3.") for name in settings)
    plain = load_config(CONFIGS / f"{preset}.yaml")
    mixed = load_config(CONFIGS / f"{preset}.yaml", mixture=path.stem)
    got = flat(mixed.model_dump(mode="json"))
    assert {name: got[name] for name in settings} == settings
    assert mixed.episode == plain.episode
    assert mixed.phase2 == plain.phase2


@pytest.mark.parametrize("path", MIXTURES, ids=lambda path: path.stem)
def test_a_mixture_is_a_config_of_its_own(path):
    assert load_config(path) != Config() or path.stem == "default"
