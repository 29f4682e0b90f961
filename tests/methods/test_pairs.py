"""Pair logs: trainings add what they found, every byte can be verified, and nothing is lost when a process dies."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cedkv.cli import main
from cedkv.events import drain
from cedkv.methods import run_method
from cedkv.methods.cached import iter_cached_extract
from cedkv.methods.pairs import PairError, PairLog
from cedkv.state.cache import StateCache
from tests.optim.trainings import bench_with

CHUNKS = ("phase3.mixture={}", "phase3.start=chunks", "phase3.optim.steps=1", "phase3.optim.tick_every=1")


def train(log: Path, *overrides: str, method: str = "ced"):
    *_, done = run_method(method, bench_with(*CHUNKS, f"phase3.pair_log={log}", *overrides), 5)
    return done.result.prefix


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A log of two trainings, one of them run twice, and the second one's state."""
    folder = tmp_path_factory.mktemp("pairs") / "log"
    train(folder)
    train(folder)
    return folder, train(folder, "run.seed=1")


def copied(kept, tmp_path) -> Path:
    folder = tmp_path / "log"
    for file in kept[0].rglob("*.*"):
        (folder / file.relative_to(kept[0])).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.relative_to(kept[0])).write_bytes(file.read_bytes())
    return folder


def test_a_pair_is_what_the_state_says_of_itself(kept):
    folder, prefix = kept
    log = PairLog(folder)
    first, second = log.rows().values()
    numbers = log.read(second)
    assert torch.equal(numbers["log_bias"], prefix.mixture.log_bias)
    assert torch.equal(numbers["weights"], prefix.mixture.weights)
    assert second["episode"] == prefix.meta["episode"] != first["episode"]
    assert tuple(second["tokens"]["ids"]) == prefix.mixture.tokens.ids
    assert list(log.problems()) == []


def test_what_is_not_trained_leaves_no_pair(tmp_path):
    train(tmp_path / "log", method="chunked")
    with pytest.raises(PairError, match=r"has no index\.jsonl"):
        PairLog(tmp_path / "log").rows()


def test_the_command_lists_exports_and_verifies(kept, tmp_path, capsys):
    assert main(["pairs", "ls", str(kept[0])]) == 0
    assert capsys.readouterr().out.count("present-past") == 2
    assert main(["pairs", "export", str(kept[0]), "--out", str(tmp_path / "all.safetensors")]) == 0
    key, row = next(iter(PairLog(kept[0]).rows().items()))
    assert torch.equal(
        load_file(tmp_path / "all.safetensors")[f"{key}/value_gain"], PairLog(kept[0]).read(row)["value_gain"]
    )
    assert main(["pairs", "verify", str(kept[0])]) == 0


@pytest.mark.parametrize(
    ("harm", "told"),
    [("byte", "checksum"), ("cut", "damaged"), ("gone", "cannot be read"), ("stray", "no line of the index")],
)
def test_damage_is_found_and_named(harm, told, kept, tmp_path, capsys):
    folder = copied(kept, tmp_path)
    shard = folder / next(iter(PairLog(folder).rows().values()))["shard"]
    content = shard.read_bytes()
    if harm == "byte":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif harm == "cut":
        shard.write_bytes(content[:20])
    elif harm == "gone":
        shard.unlink()
    else:
        (folder / "shards/other.safetensors").write_bytes(content)
    assert main(["pairs", "verify", str(folder)]) == 1
    assert told in capsys.readouterr().out


def test_a_line_that_was_torn_is_not_there(kept, tmp_path):
    folder = copied(kept, tmp_path)
    index = folder / "index.jsonl"
    index.write_bytes(index.read_bytes()[:-40])
    assert len(PairLog(folder).rows()) == 1
    assert len(PairLog(kept[0]).rows()) == 2


def test_a_training_whose_pair_is_to_be_kept_is_done_again(tmp_path):
    bench, states = bench_with(*CHUNKS), StateCache(tmp_path / "states")
    logged = bench_with(*CHUNKS, f"phase3.pair_log={tmp_path / 'pairs'}").config
    for config in (bench.config, logged):
        drain(iter_cached_extract(states, bench.lm, bench.episode, "ced", 4, config))
    assert len(PairLog(tmp_path / "pairs").ledger.rows()) == 1
