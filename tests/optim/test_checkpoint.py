"""A training that is taken up again: bit for bit the same, or refused."""

from dataclasses import replace

import pytest
import torch

from cedkv.errors import CheckpointError
from cedkv.optim.checkpoint import Checkpoint, Memory
from cedkv.optim.loop import LoopSettings, Measured, Training, run_training
from tests.optim.toys import Pulls

SETTINGS = LoopSettings(12, tick_every=3)


def noisy(checkpoint: Checkpoint | None = None, stop_after: int | None = None) -> Training:
    training = Training(Pulls(noise=0.3), SETTINGS, checkpoint=checkpoint)
    training.stop = lambda: stop_after is not None and training.done == stop_after
    return training


@pytest.fixture
def kept(tmp_path) -> Checkpoint:
    return Checkpoint(tmp_path / "training.safetensors", key="settings", every=4)


@pytest.mark.parametrize("stop_after", [1, 5, 7])
def test_it_ends_where_the_whole_training_does(kept, stop_after):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = noisy()
        list(run_training(whole))
        torch.manual_seed(0)
        cut = noisy(kept, stop_after)
        list(run_training(cut))
        assert cut.stopped == f"step {stop_after}: cancelled"
        torch.manual_seed(99)  # another process, with other random numbers
        resumed = noisy(kept)
        list(run_training(resumed))
    assert torch.equal(resumed.objective.x, whole.objective.x)
    assert torch.equal(resumed.objective.y, whole.objective.y)
    assert resumed.objective.mean == whole.objective.mean
    assert (resumed.values, resumed.best_step) == (whole.values, whole.best_step)
    assert all(torch.equal(resumed.best[name], tensor) for name, tensor in whole.best.items())
    assert resumed.objective.refreshed == list(range(stop_after, 12))


class Unsatisfied(Pulls):
    """Wants more steps until it has taken nine."""

    def measure(self, step: int) -> Measured:
        return replace(super().measure(step), wants_more=step < 8)


@pytest.mark.parametrize("stop_after", [3, 5])
def test_one_that_has_been_extended_goes_on_as_far(kept, stop_after):
    settings = LoopSettings(3, tick_every=3, extend_to=30)
    whole = Training(Unsatisfied(), settings)
    list(run_training(whole))
    cut = Training(Unsatisfied(), settings, checkpoint=kept)
    cut.stop = lambda: cut.done == stop_after
    list(run_training(cut))
    resumed = Training(Unsatisfied(), settings, checkpoint=kept)
    list(run_training(resumed))
    assert (cut.done, resumed.done, resumed.planned) == (stop_after, 9, 9)
    assert torch.equal(resumed.objective.x, whole.objective.x)


def test_without_the_optimisers_state_it_would_not(kept):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = noisy()
        list(run_training(whole))
        torch.manual_seed(0)
        list(run_training(noisy(kept, 5)))
        memory = kept.read()
        bare = {name: 0 * t if name.startswith("optimiser/") else t for name, t in memory.tensors.items()}
        kept.write(Memory(bare, memory.plain))
        resumed = noisy(kept)
        list(run_training(resumed))
    assert not torch.equal(resumed.objective.x, whole.objective.x)


def test_a_finished_training_is_not_trained_again(kept):
    list(run_training(noisy(kept)))
    again = noisy(kept)
    assert list(run_training(again)) == []
    assert again.done == 12 and again.best_step is not None


def test_another_trainings_file_is_refused(kept):
    list(run_training(noisy(kept, 4)))
    with pytest.raises(CheckpointError, match="other settings, data or model"):
        list(run_training(noisy(Checkpoint(kept.path, key="other settings"))))


def test_a_damaged_file_is_refused_and_stays(kept):
    list(run_training(noisy(kept, 4)))
    content = bytearray(kept.path.read_bytes())
    content[-3] ^= 1
    kept.path.write_bytes(content)
    with pytest.raises(CheckpointError, match="remove it to begin anew"):
        list(run_training(noisy(kept)))
    assert kept.path.read_bytes() == content


def test_it_is_a_plain_safetensors_file(kept):
    from safetensors import safe_open

    list(run_training(noisy(kept, 4)))
    with safe_open(kept.path, framework="pt") as file:
        assert "parameters/0" in set(file.keys())


def test_parts_come_back_as_they_were():
    memory = Memory.of_parts({"a": Memory({"x": torch.ones(2)}, {"n": 1}), "b": Memory({}, {"n": 2})})
    assert memory.part("a").tensors["x"].tolist() == [1, 1]
    assert (memory.part("a").plain, memory.part("b").plain, dict(memory.part("b").tensors)) == ({"n": 1}, {"n": 2}, {})
