"""The shipped relation tasks, and what a user's own task file may and may not hold."""

import json

import pytest
import yaml

from cedkv.episodes.relation.tasks import TASKS_DIR, load_task, load_task_file, task_names
from cedkv.errors import DemoError

NAMES = task_names()


@pytest.fixture
def task_file(tmp_path):
    def write(content):
        path = tmp_path / "mine.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return write


def pair(x, y):
    return {"input": x, "output": y}


def test_enough_tasks_of_enough_kinds():
    assert len(NAMES) >= 16
    assert len({load_task(name).kind for name in NAMES}) >= 6


def test_index_and_files_agree_both_ways():
    assert sorted(NAMES) == sorted(path.stem for path in TASKS_DIR.glob("*.json"))


def test_every_index_entry_says_kind_about_and_source():
    index = yaml.safe_load((TASKS_DIR / "index.yaml").read_text(encoding="utf-8"))
    for name, entry in index.items():
        assert set(entry) == {"kind", "about", "source"}, name
        assert all(isinstance(value, str) and value.strip() for value in entry.values()), name


@pytest.mark.parametrize("name", NAMES)
def test_shipped_task_is_large_clean_and_unambiguous(name):
    # Read raw: the loader strips and drops duplicates, which would hide what this test is about.
    items = json.loads((TASKS_DIR / f"{name}.json").read_text(encoding="utf-8"))
    assert len(items) >= 60
    assert all(set(item) == {"input", "output"} for item in items)
    texts = [text for item in items for text in item.values()]
    assert all(text and text == text.strip() for text in texts)
    inputs = [item["input"].lower() for item in items]
    assert len(set(inputs)) == len(inputs)
    assert all(len(item["output"].split()) <= 3 for item in items)
    assert load_task(name).pairs == tuple((item["input"], item["output"]) for item in items)


def test_unknown_name_gives_the_nearest_and_the_remedy():
    with pytest.raises(DemoError, match="'present-pats'; did you mean 'present-past'.*index.yaml"):
        load_task("present-pats")


def test_a_file_becomes_a_task_named_after_it(task_file):
    task = load_task_file(task_file([pair(" jump ", "jumped"), pair("walk", "walked\n")]))
    assert (task.name, task.kind) == ("mine", "file")
    assert task.pairs == (("jump", "jumped"), ("walk", "walked"))


def test_of_equal_inputs_the_first_is_kept(task_file):
    path = task_file([pair("big", "small"), pair("big", "little"), pair("big", "small"), pair("hot", "cold")])
    assert load_task_file(path).pairs == (("big", "small"), ("hot", "cold"))


def test_of_a_list_of_answers_the_first_counts(task_file):
    path = task_file([pair("big", ["small", "little"]), pair(["hot"], "cold")])
    assert load_task_file(path).pairs == (("big", "small"), ("hot", "cold"))


def test_a_byte_order_mark_is_no_obstacle(task_file):
    path = task_file("\ufeff" + json.dumps([pair("a", "b"), pair("c", "d")]))
    assert load_task_file(path).pairs == (("a", "b"), ("c", "d"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[\n{"input": "a", "output": "b"},\n{"input": "c" "output": "d"}\n]', "not JSON, line 3"),
        ("[" * 100_000, "nested too deeply"),
        ({"input": "a", "output": "b"}, "top level is a dict, not a list"),
        ([pair("a", "b"), "c"], "item 1 is 'c'"),
        ([pair("a", "b"), {"input": "c"}], "item 1 has output None"),
        ([pair("a", "b"), pair("c", "d"), pair(" ", "e")], "item 2 has input ' '"),
        ([pair("a", "b"), pair("c", 7)], "item 1 has output 7"),
        ([pair("a", "b"), pair("c", [])], r"item 1 has output \[\]"),
        ([], "0 different inputs"),
        ([pair("a", "b"), pair("a", "c")], "1 different inputs"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(task_file, content, message):
    path = task_file(content)
    with pytest.raises(DemoError, match=message) as error:
        load_task_file(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DemoError, match="nowhere.json: cannot read the task file"):
        load_task_file(tmp_path / "nowhere.json")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DemoError, match="cannot read the task file"):
        load_task_file(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "latin.json"
    path.write_bytes('[{"input": "été", "output": "b"}]'.encode("latin-1"))
    with pytest.raises(DemoError, match="byte 12 is not UTF-8"):
        load_task_file(path)


def test_a_file_over_five_megabytes_is_refused(task_file):
    with pytest.raises(DemoError, match="6.0 MB; a task file has at most 5 MB"):
        load_task_file(task_file(" " * 6_000_000))
