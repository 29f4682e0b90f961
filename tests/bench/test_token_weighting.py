"""The comparison of token weights: figures by hand, gates that can fail, and a sweep that goes on where it was cut."""

import json

import pytest

from benchmarks import token_weighting
from benchmarks.token_weighting import accuracy, error, gates, interval, main, plot, table
from tests.tiny import tiny_path

SMALL = [
    f"run.model.id={tiny_path('llama')}",
    "train.steps=2",
    "train.batch=2",
    "train.lora={rank: 2, layers: 1}",
    "train.texts={count: 4, held_out: 4, shots: 2}",
    "train.weights.critic_steps=5",
]


def row(*wrong: int) -> dict:
    return {"wrong": list(wrong), "important": [4] * len(wrong)}


def cells(plain: int, ahead: int, alone: int, combined: int) -> dict:
    """Two seeds of ten texts; each number says how many of them are wrong, by two tokens of four."""
    arms = {("ntp", "uniform"): plain, ("mtp", "uniform"): ahead, ("ntp", "both"): alone, ("mtp", "both"): combined}
    return {arm: {seed: row(*[2] * wrong, *[0] * (10 - wrong)) for seed in range(2)} for arm, wrong in arms.items()}


def test_figures_are_means_over_seeds_and_texts():
    rows = [row(0, 1, 2), row(0, 0, 4)]
    assert accuracy(rows, [0, 1, 2]) == pytest.approx(3 / 6)
    assert error(rows, [0, 1, 2]) == pytest.approx(7 / 24)


def test_an_interval_holds_its_figure_and_is_the_same_again():
    found = {seed: row(*[0] * (5 + seed), *[1] * (5 - seed)) for seed in range(3)}

    def figure(seeds, texts):
        return accuracy([found[seed] for seed in seeds], texts)

    value, low, high = interval(figure, [0, 1, 2], 10)
    assert value == pytest.approx(0.6) and low < value < high
    assert interval(figure, [0, 1, 2], 10) == (value, low, high)


@pytest.mark.parametrize(
    ("wrong", "met"),
    [((8, 7, 6, 2), [True, True, True]), ((8, 4, 4, 1), [True, True, False]), ((5, 5, 5, 5), [False, False, False])],
)
def test_gates_are_met_or_not(wrong, met):
    """In the second, 4 + 4 of ten texts are gained apart and 7 together: more than plain, and no more than the sum."""
    lines = gates(cells(*wrong), 10).splitlines()[2:]
    assert [line.split("|")[3].strip() == "True" for line in lines] == met


def test_what_is_not_there_is_said():
    assert gates({}, 10).startswith("The gates need")
    some = {("ntp", "uniform"): {0: row(0, 1)}}
    assert "| ntp | uniform | 1 | 0.500" in table(some, 2)
    assert plot(some, 2).count("<circle") == 1


def test_a_sweep_goes_on_and_gives_the_same_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(token_weighting, "SCORERS", {"both": "rho1-critic"})
    sets = [word for setting in SMALL for word in ("--set", setting)]
    asked = ["--seeds", "1", *sets, "--out"]
    main([*asked, str(tmp_path / "one")])
    rows = (tmp_path / "one/rows.jsonl").read_text().splitlines()
    assert len(rows) == 3  # untrained, ntp, mtp

    (tmp_path / "two").mkdir()
    (tmp_path / "two/rows.jsonl").write_text("\n".join(rows[:2]) + "\n")
    main([*asked, str(tmp_path / "two")])
    again = (tmp_path / "two/rows.jsonl").read_text().splitlines()
    assert again[:2] == rows[:2] and len(again) == 3
    first, second = (json.loads(line)["row"] for line in (rows[2], again[2]))
    assert first["wrong"] == second["wrong"] and first["last_step"] == second["last_step"]
    assert (tmp_path / "one/table.md").read_text() == (tmp_path / "two/table.md").read_text()
    main([*asked, str(tmp_path / "two"), "--show"])
    assert "| none | untrained | 1 |" in capsys.readouterr().out
