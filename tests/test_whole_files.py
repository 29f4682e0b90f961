"""Files and folders that are there whole or not at all, and what was there before a write that fails."""

import pytest

from cedkv.errors import OutputError
from cedkv.files import whole_file, whole_folder, write_whole


class Broken(Exception):
    pass


def fill(folder, text: str) -> None:
    for name in "ab":
        (folder / name).write_text(text)


def texts(folder) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_file_takes_its_place_after_the_block(tmp_path):
    path = tmp_path / "deep" / "note"
    with whole_file(path) as unfinished:
        unfinished.write_text("all of it")
        assert not path.exists()
    assert texts(path.parent) == {"note": "all of it"}
    write_whole(path, "ü")
    assert path.read_bytes() == "ü".encode()


def test_of_several_files_the_first_named_comes_last(tmp_path):
    with pytest.raises(OutputError), whole_file(tmp_path / "a") as a, whole_file(tmp_path / "b" / "c"):
        a.write_text("done")
        raise OSError("full")
    assert texts(tmp_path / "b") == {} and not (tmp_path / "a").exists()


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for text in ("first", "second"):
        with whole_folder(tmp_path / "made") as building:
            fill(building, text)
    assert texts(tmp_path / "made") == {"a": "second", "b": "second"}
    with whole_folder(tmp_path / "made", once=True) as building:
        fill(building, "third")
    assert texts(tmp_path / "made") == {"a": "second", "b": "second"}
    assert [path.name for path in tmp_path.iterdir()] == ["made"], "nothing else is left behind"


def test_what_fails_leaves_what_was_there(tmp_path):
    with whole_folder(tmp_path / "made") as building:
        fill(building, "first")
    for kind, raised in ((Broken, Broken), (OSError, OutputError)):
        with pytest.raises(raised), whole_folder(tmp_path / "made") as building:
            (building / "a").write_text("half")
            raise kind("no space left")
    assert texts(tmp_path / "made") == {"a": "first", "b": "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_the_place_and_the_remedy_are_told(tmp_path):
    (tmp_path / "file").write_text("")
    told = pytest.raises(OutputError, match=r"'.*/file/made' cannot be written: .*; set IT to another")
    with told, whole_folder(tmp_path / "file" / "made", remedy="set IT to another"):
        raise AssertionError("there is nowhere to build")


def test_a_folder_can_be_read_by_whom_a_file_can(tmp_path):
    """A converted model is mounted into a container that runs as somebody else."""
    (tmp_path / "plain").mkdir()
    with whole_folder(tmp_path / "whole") as building:
        (building / "a").write_text("a")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode
