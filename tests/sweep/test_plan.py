"""A sweep's file: what is crossed with what, and one clear line for every mistake, with the line it is in."""

import pytest
import yaml

from cedkv.errors import ConfigError
from cedkv.sweep.judging import REFERENCES
from cedkv.sweep.plan import read_plan


def cells_of(plan, *names: str) -> list[tuple]:
    return [tuple(getattr(cell, name) for name in names) for cell in plan.cells if cell.method not in REFERENCES]


def test_a_grid_is_crossed_with_tasks_seeds_and_methods(file):
    grid = {"phase3.slots": [2, 4], "phase3.chunked.weight": [0.5, 1]}
    plan = read_plan(file(grid=grid, tasks=["antonym", "capitalize"], seeds=[0, 7], methods=["select", "chunked"]))
    made = cells_of(plan, "task", "seed", "method", "slots")
    assert len(made) == 2 * 2 * 2 * 4
    assert made[:3] == [("antonym", 0, "select", 2), ("antonym", 0, "chunked", 2), ("antonym", 0, "select", 2)]
    assert {(c.config.phase3.slots, c.config.phase3.chunked.weight) for c in plan.cells if c.slots} == {
        (2, 0.5), (2, 1), (4, 0.5), (4, 1),
    }  # fmt: skip
    for cell in plan.cells:
        assert (cell.config.episode.task, cell.config.run.seed) == (cell.task, cell.seed)
        assert cell.config.episode.demos == 4, "the file's own settings hold in all cells"


def test_a_list_gives_the_points_one_by_one(file):
    points = [{"phase3.slots": 2}, {"phase3.slots": 4, "episode.demos": 3}]
    plan = read_plan(file(list=points))
    assert cells_of(plan, "settings") == [(point,) for point in points]
    assert cells_of(plan, "slots") == [(2,), (4,)]


def test_settings_lie_over_a_base(file, tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text(yaml.safe_dump({"episode": {"demos": 9, "on_train": 5}, "phase3": {"slots": 3}}))
    (cell,) = (cell for cell in read_plan(file(base=str(base))).cells if cell.slots)
    assert (cell.config.episode.demos, cell.config.episode.on_train, cell.slots) == (4, 4, 3)


def test_references_are_judged_once_for_all_that_they_do_not_depend_on(file):
    plan = read_plan(file(grid={"phase3.slots": [2, 4], "episode.demos": [3, 4]}))
    beside = [cell for cell in plan.cells if cell.method in REFERENCES]
    assert len(beside) == 2 * len(REFERENCES)
    assert [cell.settings for cell in beside if cell.method == "teacher"] == [
        {"episode.demos": 3},
        {"episode.demos": 4},
    ]
    assert {cell.beside for cell in beside} == {cell.beside for cell in plan.cells}


def test_a_key_names_settings_method_model_and_code(file, monkeypatch):
    cells = read_plan(file(grid={"phase3.slots": [2, 4]}, methods=["select", "chunked"])).cells
    keys = {cell.keyed("m").key for cell in cells} | {cells[0].keyed("other model").key}
    assert len(keys) == len(cells) + 1
    monkeypatch.setattr("cedkv.ledger.code_fingerprint", lambda: "other code")
    assert cells[0].keyed("m").key not in keys


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grids": {}}, "line 18: 'grids' is not a setting; did you mean 'grid'"),
        ({"grid": {"phase3.slotz": [2]}}, "line 19: 'phase3.slotz' is not a setting; did you mean 'slots'"),
        ({"grid": {"phase3.slots": [2, 0]}}, "line 19: phase3.slots = 0: input should be greater"),
        ({"grid": {"phase3.slots": 2}}, "line 19: grid.phase3.slots = 2: input should be a valid tuple"),
        ({"grid": {"phase3.slots": []}}, "line 18: grid = .*phase3.slots has no values"),
        ({"grid": {"phase3.slots": [2, 2]}}, "grid = .*2 is there twice"),
        ({"grid": {"run.seed": [2]}}, "run.seed is no setting to sweep; list seeds under `seeds`"),
        ({"grid": {"phase2.prefix_len": [2]}}, "phase2.prefix_len is no setting to sweep; here every method"),
        ({"grid": {"phase3.slots": [2]}, "list": [{"phase3.slots": 2}]}, "list = .*there is a grid too; give one"),
        ({"list": [{"phase3.slots": 2}, {"phase3.slots": 0}]}, "line 20: phase3.slots = 0"),
        ({"grid": {"phase3.start.x": [2]}}, "phase3.start = {'x': 2}: input should be 'chunks' or"),
        ({"tasks": []}, "line 18: tasks = .*at least 1"),
        ({"tasks": ["presnt-past"]}, "tasks: 'presnt-past' is unknown; did you mean 'present-past'"),
        ({"tasks": ["missing.json"]}, "tasks: there is no file 'missing.json'"),
        ({"methods": ["choose"]}, "methods: 'choose' is unknown; did you mean"),
        ({"seeds": [0, 0]}, "seeds = .*0 is there twice"),
        ({"seeds": [-1]}, "seeds = -1"),
        ({"base": "nowhere.yaml"}, "config 'nowhere.yaml' cannot be read"),
        ({"settings": {"phase3": {"slotz": 1}}}, "line 3: 'phase3.slotz' is not a setting"),
        ({"workers": 0}, "workers = 0"),
    ],
)
def test_a_mistake_is_one_line(file, changes, message):
    with pytest.raises(ConfigError, match=message) as raised:
        read_plan(file(**changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"run": {"seed": 7}}},
        {"settings": {"episode": {"task": "antonym"}}},
        {"grid": {"phase2.seed": [1, 2]}},
        {"grid": {"run": [{"seed": 3}]}},
        {"list": [{"episode": {"task_file": "mine.json"}}]},
    ],
)
def test_what_a_sweep_says_elsewhere_is_refused_however_it_is_written(file, changes):
    with pytest.raises(ConfigError, match="is no setting to sweep; list"):
        read_plan(file(**changes))


def test_points_of_the_same_settings_are_refused(file):
    """They would be one row, told of twice."""
    with pytest.raises(ConfigError, match=r"points \{\} and \{'phase3.slots': 8\} are the same settings"):
        read_plan(file(list=[{}, {"phase3.slots": 8}]))


def test_a_point_may_be_made_of_another_by_a_merge_key(file, tmp_path):
    text = file().read_text() + "list: [&a {phase3.slots: 4}, {<<: *a, phase3.chunked.weight: 0.5}]\n"
    (tmp_path / "merged.yaml").write_text(text)
    cells = cells_of(read_plan(tmp_path / "merged.yaml"), "slots", "settings")
    assert cells == [(4, {"phase3.slots": 4}), (4, {"phase3.slots": 4, "phase3.chunked.weight": 0.5})]
