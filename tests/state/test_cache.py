"""The cache of extraction results: keyed by content, bounded, safe under several processes, and it heals itself."""

import os

import pytest

from benchmarks.cache_stress import numbered, stress
from cedkv.errors import OutputError
from cedkv.state import KVPrefix
from cedkv.state.cache import StateCache, content_key
from tests.state.test_file import assert_same


@pytest.fixture
def cache(tmp_path) -> StateCache:
    return StateCache(tmp_path / "cache")


def test_what_was_put_is_got_again_and_nothing_else(cache):
    assert cache.get("a", "print") is None
    cache.put("a", numbered(1))
    assert_same(cache.get("a", "print"), numbered(1))
    assert cache.get("b", "print") is None
    assert [entry.key for entry in cache.entries()] == ["a"]


def test_making_happens_once(cache):
    made = []

    def make_it() -> KVPrefix:
        made.append(1)
        return numbered(3)

    for _ in range(3):
        assert_same(cache.get_or_make("k", "print", make_it), numbered(3))
    assert len(made) == 1


def test_keys_follow_content_not_order():
    one = content_key(episode="e", settings={"a": 1, "b": 2}, method="ced")
    assert one == content_key(method="ced", settings={"b": 2, "a": 1}, episode="e")
    others = [
        content_key(episode="f", settings={"a": 1, "b": 2}, method="ced"),
        content_key(episode="e", settings={"a": 1, "b": 3}, method="ced"),
        content_key(episode="e", settings={"a": 1, "b": 2}, method="free"),
    ]
    assert len({one, *others}) == 4


def test_another_format_version_is_another_key(monkeypatch):
    before = content_key(episode="e")
    monkeypatch.setattr("cedkv.state.cache.FORMAT_VERSION", 99)
    assert content_key(episode="e") != before


@pytest.mark.parametrize("damage", [lambda whole: whole[:-5], lambda whole: b"", lambda whole: whole[::-1]])
def test_a_damaged_entry_is_dropped_and_made_again(cache, damage):
    cache.put("a", numbered(1))
    path = cache.entries()[0].path
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get("a", "print") is None
    assert cache.entries() == []
    assert_same(cache.get_or_make("a", "print", lambda: numbered(1)), numbered(1))
    assert_same(cache.get("a", "print"), numbered(1))


def test_the_least_recently_used_leaves_first(cache):
    cache.put("a", numbered(1))
    size = cache.entries()[0].bytes
    small = StateCache(cache.folder, limit_bytes=int(3.5 * size))
    for age, key in enumerate(["a", "b", "c"]):
        small.put(key, numbered(age))
        os.utime(cache.folder / f"{key}.safetensors", (1000 + age, 1000 + age))
    assert small.get("a", "print") is not None, "reading is using"
    small.put("d", numbered(4))
    assert {entry.key for entry in small.entries()} == {"a", "c", "d"}


def test_an_entry_larger_than_the_limit_is_kept_alone(cache):
    small = StateCache(cache.folder, limit_bytes=1)
    small.put("a", numbered(1))
    small.put("b", numbered(2))
    assert [entry.key for entry in small.entries()] == ["b"]


def test_clearing_removes_entries_and_what_crashes_left(cache):
    cache.put("a", numbered(1))
    cache.put("b", numbered(2))
    (cache.folder / ".a.safetensors-x1y2").write_bytes(b"half")
    (cache.folder / "notes.txt").write_text("not ours")
    assert cache.clear() == 2
    assert [path.name for path in cache.folder.iterdir()] == ["notes.txt"]
    assert StateCache(cache.folder / "nowhere").clear() == 0


def test_what_a_crash_left_long_ago_goes_with_the_next_entry(cache):
    cache.put("a", numbered(1))
    old, new = cache.folder / ".a.safetensors-old", cache.folder / ".a.safetensors-new"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    cache.put("b", numbered(2))
    assert new.exists() and not old.exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        StateCache(tmp_path / "file" / "cache").put("a", numbered(1))


def test_four_processes_at_one_cache_lose_and_corrupt_nothing(tmp_path):
    turns, wrong = stress(tmp_path, processes=4, seconds=2.0)
    assert wrong == []
    assert turns > 40
    cache = StateCache(tmp_path)
    for entry in cache.entries():
        state = cache.get(entry.key, "print")
        assert state is None or f"k{int(state.keys[0, 0, 0, 0])}" == entry.key
