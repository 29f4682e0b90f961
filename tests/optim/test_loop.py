"""The training loop with an objective that knows no slots: rates, ticks, the best state, and how it ends."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch

from cedkv.errors import NonFiniteError
from cedkv.events import TrainingStep, TrainingTick, Warned
from cedkv.optim.loop import LoopSettings, Losses, Measured, Training, run_training
from cedkv.optim.schedule import rate_at
from tests.optim.toys import Pulls


def of_kind(events: list, kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


@dataclass
class Scripted(Pulls):
    """Ticks whose values are given; more steps are wanted while a value is above a bound."""

    values: tuple[float, ...] = ()
    bound: float = math.inf

    def measure(self, step: int) -> Measured:
        value, *self.values = self.values
        return Measured(TrainingTick(self.name, step, value, {}), value, wants_more=value > self.bound)


def test_it_trains_what_it_is_given_and_tells_every_step_and_tick():
    training = Training(Pulls(), LoopSettings(20, tick_every=5))
    events = list(run_training(training))
    steps, ticks = of_kind(events, TrainingStep), of_kind(events, TrainingTick)
    assert [step.step for step in steps] == list(range(20))
    assert steps[0].terms == {"x": 1.0, "y": 1.0} and steps[0].loss == 2.0
    assert [tick.step for tick in ticks] == [4, 9, 14, 19]
    assert training.values == [tick.value for tick in ticks]
    assert training.objective.x.item() > 0.7
    assert training.done == 20 and training.stopped == ""


def test_every_group_has_its_own_rate_and_all_decay_to_a_tenth():
    """Adam's first step moves a parameter by its learning rate; with a steady gradient so does every later one."""
    objective = Pulls(rates=(0.001, 0.0002))
    seen = []
    for event in run_training(Training(objective, LoopSettings(3, decay="linear", tick_every=9))):
        if isinstance(event, TrainingStep):
            seen.append((objective.x.item(), -objective.y.item()))
    by_hand = [0.001, 0.001 * (1 + 0.55), 0.001 * (1 + 0.55 + 0.1)]
    assert [x for x, _ in seen] == pytest.approx(by_hand, rel=1e-2)
    assert [y for _, y in seen] == pytest.approx([0.2 * x for x in by_hand], rel=1e-2)


def test_it_is_refreshed_before_and_told_after_every_update():
    objective = Pulls()
    list(run_training(Training(objective, LoopSettings(4))))
    assert objective.refreshed == [0, 1, 2, 3]
    assert 0 < objective.mean < objective.x.item()


def test_the_best_tick_is_kept_and_can_be_loaded():
    objective = Scripted(values=(3.0, 1.0, 2.0, 2.5))
    training = Training(objective, LoopSettings(4, tick_every=1))
    states = [objective.x.item() for event in run_training(training) if isinstance(event, TrainingTick)]
    assert (training.best_step, training.best_value) == (1, 1.0)
    objective.load(training.best)
    assert objective.x.item() == states[1] != states[3]


def test_without_a_tick_the_best_is_where_it_started():
    objective = Scripted(values=(math.inf,))
    training = Training(objective, LoopSettings(1))
    list(run_training(training))
    objective.load(training.best)
    assert (training.best_step, objective.x.item()) == (None, 0.0)


@pytest.mark.parametrize(("patience", "stopped"), [(2, "step 4: 2 ticks without improvement"), (None, "")])
def test_it_stops_early_only_where_it_has_a_patience(patience, stopped):
    training = Training(Scripted(values=(5.0, 3.0, 3.0, 2.99, 1.0)), LoopSettings(5, tick_every=1, patience=patience))
    list(run_training(training))
    assert training.stopped == stopped
    assert len(training.values) == (4 if patience else 5)


def test_asked_to_stop_it_does_so_after_the_step():
    told = []
    training = Training(Pulls(), LoopSettings(9), stop=lambda: len(of_kind(told, TrainingStep)) == 3)
    for event in run_training(training):
        told.append(event)
    assert (training.done, training.stopped, training.cancelled) == (3, "step 3: cancelled", True)


def test_a_large_gradient_is_clipped_over_all_groups():
    objective = Pulls()
    list(run_training(Training(objective, LoopSettings(1, clip=0.001))))
    norm = torch.cat([objective.x.grad, objective.y.grad]).norm()
    assert norm.item() == pytest.approx(0.001, rel=1e-3)


class Breaks(Pulls):
    """A term, the gradient or what is measured is no number any more, from the third step on."""

    where = "x"

    def losses(self, step: int) -> Losses:
        losses = super().losses(step)
        if step < 2 or self.where == "tick":
            return losses
        if self.where == "gradient":
            self.x.register_hook(lambda gradient: gradient * math.inf)
            return losses
        return Losses({**losses.terms, "x": losses.terms["x"] * math.nan}, losses.total)

    def measure(self, step: int) -> Measured:
        if step >= 2 and self.where == "tick":
            raise NonFiniteError("the figure is nan; pull less")
        return super().measure(step)


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("x", "step 2: x is nan; pull less"),
        ("gradient", "step 2: the gradient is inf; pull less"),
        ("tick", "step 2: the figure is nan; pull less"),
    ],
)
def test_what_is_not_finite_ends_it_with_the_last_good_state(where, why):
    objective = Breaks()
    objective.where = where
    training = Training(objective, LoopSettings(9, tick_every=1))
    *_, last = run_training(training)
    assert isinstance(last, Warned)
    assert last.message == f"pulls: training stopped, {why}; the last good state is kept"
    assert training.stopped == why
    assert training.best_step == 1
    assert objective.x.isfinite().all()


@pytest.mark.parametrize(
    ("values", "taken"),
    [
        ((0.5,), [4]),  # good enough where it was to end
        ((2.0, 0.5), [4, 8]),
        ((2.0, 2.0, 2.0), [4, 8, 10]),  # as far as it may go
    ],
)
def test_a_training_whose_best_tick_wants_more_is_extended_from_tick_to_tick(values, taken):
    objective = Scripted(values=values, bound=1.0)
    training = Training(objective, LoopSettings(4, tick_every=4, extend_to=10))
    events = list(run_training(training))
    assert [tick.step + 1 for tick in of_kind(events, TrainingTick)] == taken
    assert [step.steps for step in of_kind(events, TrainingStep)] == [end for end in taken for _ in range(4)][
        : taken[-1]
    ]
    assert (training.done, training.planned, training.stopped) == (taken[-1], taken[-1], "")


@pytest.mark.parametrize("settings", [LoopSettings(4, tick_every=4), LoopSettings(4, tick_every=4, extend_to=3)])
def test_no_training_is_extended_or_cut_that_may_not_be(settings):
    training = Training(Scripted(values=(2.0,), bound=1.0), settings)
    list(run_training(training))
    assert training.done == 4


@pytest.mark.parametrize("values", [(2.0, 0.5), (0.5, 2.0)])
def test_one_good_tick_is_enough(values):
    training = Training(Scripted(values=values, bound=1.0), LoopSettings(4, tick_every=2, extend_to=10))
    list(run_training(training))
    assert training.done == 4


def test_the_first_steps_of_an_extended_training_are_those_of_one_that_is_not():
    """And the rate of those added is that of a training so long."""
    seen = {}
    for bound in (math.inf, 1.0):
        objective, places = Scripted(values=(2.0, 0.5), bound=bound), []
        for event in run_training(Training(objective, LoopSettings(3, decay="linear", tick_every=3, extend_to=6))):
            if isinstance(event, TrainingStep):
                places.append(objective.x.item())
        seen[bound] = places
    assert seen[1.0][:3] == seen[math.inf] and len(seen[1.0]) == 6
    moved = [after - before for before, after in itertools.pairwise([0.0, *seen[1.0]])]
    assert [step / moved[0] for step in moved[3:]] == pytest.approx(
        [rate_at(step, 6, "linear") for step in (3, 4, 5)], rel=2e-2
    )
