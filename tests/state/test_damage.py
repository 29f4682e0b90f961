"""Damage of every kind: no altered file loads, no crash leaves a half file, and reading takes no more than the file."""

import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
import torch

from cedkv.errors import StateError
from cedkv.state import KVPrefix
from cedkv.state.container import MAX_HEADER_BYTES
from tests.state.test_file import make

ROOT = Path(__file__).resolve().parents[2]
MEGABYTE = 2**20


def split(whole: bytes) -> tuple[bytes, bytes]:
    """The JSON header and the tensors of a container."""
    end = 8 + int.from_bytes(whole[:8], "little")
    return whole[8:end], whole[end:]


def joined(header: bytes, tensors: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + tensors


def flip_a_bit(whole: bytes, draw: random.Random) -> bytes:
    altered = bytearray(whole)
    altered[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
    return bytes(altered)


def cut(whole: bytes, draw: random.Random) -> bytes:
    return whole[: draw.randrange(len(whole))]


def lengthen(whole: bytes, draw: random.Random) -> bytes:
    return whole + draw.randbytes(draw.randrange(1, 100))


def zero_a_stretch(whole: bytes, draw: random.Random) -> bytes:
    """What a file system leaves of blocks that were never written."""
    start = draw.randrange(len(whole) - 64)
    return whole[:start] + bytes(64) + whole[start + 64 :]


def swap_metadata(whole: bytes, draw: random.Random) -> bytes:
    """Another state's header in front of this one's tensors, with all of it or with some of its texts."""
    header, tensors = split(whole)
    mine = json.loads(header)
    other = json.loads(split(draw.choice(OTHERS))[0])
    for name in draw.sample(sorted(mine["__metadata__"]), draw.randrange(1, 3)):
        mine["__metadata__"][name] = other["__metadata__"][name]
    return joined(json.dumps(mine).encode(), tensors)


def change_a_field(whole: bytes, draw: random.Random) -> bytes:
    """One field of the header set to something else, the seal left as it was."""
    header, tensors = split(whole)
    outer = json.loads(header)
    inner = json.loads(outer["__metadata__"]["header"])
    inner[draw.choice(sorted(inner))] = draw.choice([None, -1, 2**80, "", [], {}, "x" * 50, True, 1.5])
    outer["__metadata__"]["header"] = json.dumps(inner)
    return joined(json.dumps(outer).encode(), tensors)


def oversize_the_header(whole: bytes, draw: random.Random) -> bytes:
    length = draw.choice([MAX_HEADER_BYTES + 1, 2**40, 2**63, 2**64 - 1, len(whole), len(whole) - 7, 0, 1])
    return length.to_bytes(8, "little") + whole[8:]


def move_a_tensor(whole: bytes, draw: random.Random) -> bytes:
    """A tensor's place, shape or dtype in the container changed."""
    header, tensors = split(whole)
    outer = json.loads(header)
    entry = outer[draw.choice([name for name in outer if name != "__metadata__"])]
    wrong = {
        "data_offsets": [[0, 8], [-8, 0], [8, 0], [0], "all", [0, 2**70], None],
        "shape": [[2**62], [-1, 4], [], ["4"], [1.0], None, 3, [2, 2**40]],
        "dtype": ["F64", "I64", "I32", "pickle", None, []],
    }
    field = draw.choice(sorted(wrong))
    entry[field] = draw.choice([value for value in wrong[field] if value != entry[field]])
    return joined(json.dumps(outer).encode(), tensors)


MUTATIONS = [
    *[flip_a_bit] * 5,
    cut,
    lengthen,
    zero_a_stretch,
    swap_metadata,
    change_a_field,
    oversize_the_header,
    move_a_tensor,
]
OTHERS: list[bytes] = []


@pytest.fixture
def originals(tmp_path) -> list[bytes]:
    """States of every kind of precision and mixture, as bytes."""
    kinds = [("fp32", {}), ("bf16", {"key_weights": True}), ("int8", {"mixture": False}), ("int4", {})]
    for number, (precision, mixture) in enumerate(kinds):
        make(**mixture).save(tmp_path / f"{number}.safetensors", precision)
    OTHERS[:] = [(tmp_path / f"{number}.safetensors").read_bytes() for number in range(len(kinds))]
    return list(OTHERS)


def test_no_mutated_file_loads(originals, tmp_path):
    draw = random.Random(0)
    path = tmp_path / "mutated.safetensors"
    tried = 0
    while tried < 1000:
        whole = originals[tried % len(originals)]
        mutation = MUTATIONS[tried % len(MUTATIONS)]
        altered = mutation(whole, draw)
        if altered == whole:
            continue
        tried += 1
        path.write_bytes(altered)
        with pytest.raises(StateError) as caught:
            KVPrefix.load(path)
        assert "\n" not in str(caught.value), mutation
        assert "'" in str(caught.value).replace(repr(str(path)), ""), f"{mutation}: the error names no field"


def test_no_flipped_bit_of_a_whole_file_goes_unseen(originals, tmp_path):
    """Every byte once, the padding included."""
    whole = originals[-1]
    path = tmp_path / "mutated.safetensors"
    for offset in range(0, len(whole), 3):
        altered = bytearray(whole)
        altered[offset] ^= 1 << offset % 8
        path.write_bytes(altered)
        with pytest.raises(StateError):
            KVPrefix.load(path)


def keep_saving(states: list[KVPrefix], path: Path, begun: Event) -> None:
    begun.set()
    for number in itertools.count():
        states[number % len(states)].save(path)


@pytest.mark.slow
def test_a_killed_save_leaves_no_half_file_that_loads(tmp_path):
    """SIGKILL at random moments: the state is the last whole one, and what is left beside it is whole or refused."""
    path, draw = tmp_path / "state.safetensors", random.Random(0)
    filled = [torch.full((4, 2, 512, 64), float(number)) for number in range(3)]
    active = torch.ones(4, 512, dtype=torch.bool)
    states = [KVPrefix(keys, keys, torch.arange(512), 512, active, "print") for keys in filled]
    states[0].save(path)
    halves, kills = 0, 0
    processes = multiprocessing.get_context("fork")
    while kills < 20 or (not halves and kills < 300):
        kills += 1
        begun = processes.Event()
        saver = processes.Process(target=keep_saving, args=(states, path, begun))
        saver.start()
        assert begun.wait(60)  # how long a process takes to start says nothing of its saves
        time.sleep(draw.uniform(0, 0.05))
        saver.kill()
        saver.join()
        for file in tmp_path.iterdir():
            try:
                state = KVPrefix.load(file)
            except StateError:
                assert file != path, "what has the file's name is whole"
                halves += 1
            else:
                assert state.keys.unique().numel() == 1, "all of one save"
    assert halves, "some kills hit a save"


READER = """
import resource, sys
from cedkv.state import KVPrefix
import cedkv.state.file
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
state = KVPrefix.load(sys.argv[1])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, state.nbytes)
"""


@pytest.mark.slow
def test_reading_takes_the_memory_of_the_state_once(tmp_path):
    path = tmp_path / "large.safetensors"
    keys = torch.zeros(24, 4, 2048, 128)  # 100 MB, and the values as much
    KVPrefix(
        keys=keys,
        values=keys,
        positions=torch.arange(2048),
        query_start=2048,
        active=torch.ones(24, 2048, dtype=torch.bool),
        fingerprint="print",
    ).save(path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    read = subprocess.run([sys.executable, "-c", READER, str(path)], env=environment, capture_output=True, check=True)
    grown, size = map(int, read.stdout.split())
    assert size > 190 * MEGABYTE
    assert grown < 1.2 * size
