"""A deliberately broken loss is noticed: each check holds for the real one and fails for its broken variant."""

import pytest
import torch

import cedkv.methods.objective
import cedkv.slots.mixture
from cedkv.lm import log_probs
from cedkv.methods.objective import batch_terms
from cedkv.metrics import kl
from cedkv.optim.loop import run_training
from cedkv.slots.base import detached
from tests.optim.trainings import training_of

real_on, real_off, real_softmax = (
    cedkv.methods.objective.on_loss,
    cedkv.methods.objective.off_loss,
    cedkv.slots.mixture.sparse_softmax,
)
LAST_TOP_K = 3


def approaches_the_teacher() -> bool:
    """Training on ON queries alone lowers their KL from the teacher."""
    training = training_of("phase3.loss.lambda_off=0", "phase3.dual.enabled=false", "phase3.optim.steps=12")

    def distance(prefix) -> float:
        student = log_probs(training.objective.lm, training.objective.targets.ids, prefix)
        return kl(torch.cat(training.objective.targets.teacher), student).mean().item()

    before = distance(detached(training.objective.slots.prefix(LAST_TOP_K)))
    list(run_training(training))
    return distance(detached(training.objective.slots.prefix(LAST_TOP_K))) < 0.9 * before


def spares_other_texts() -> bool:
    """Weighing the OFF term heavily leaves less effect on OFF texts than weighing it at nothing."""
    effects = []
    for weight in (0.0, 50.0):
        training = training_of(f"phase3.loss.lambda_off={weight}", "phase3.dual.enabled=false", "phase3.optim.steps=12")
        texts = list(training.objective.pool.texts)
        list(run_training(training))
        training.objective.pool.texts = texts
        effects.append(
            training.objective.pool.delta(detached(training.objective.slots.prefix(LAST_TOP_K))).mean().item()
        )
    return effects[1] < 0.9 * effects[0]


def trains_sparse_mixtures() -> bool:
    """The forward mixes, and the gradient reaches, at most `top_k` tokens of each slot."""
    training = training_of()
    objective = training.objective
    off = objective.pool.sample(4)
    losses = batch_terms(objective.lm, objective.slots, objective.targets, off, LAST_TOP_K, 0.5)
    losses["L_on"].backward()
    mixed = (training.objective.slots.prefix(LAST_TOP_K).mixture.weights > 0).sum(-1)
    reached = (training.objective.slots.logits.grad != 0).sum(-1)
    return bool((mixed <= LAST_TOP_K).all() and (reached <= LAST_TOP_K).all())


CHECKS = (approaches_the_teacher, spares_other_texts, trains_sparse_mixtures)


def flipped(monkeypatch) -> None:
    monkeypatch.setattr(cedkv.methods.objective, "on_loss", lambda *rows: -real_on(*rows))


def dropped(monkeypatch) -> None:
    monkeypatch.setattr(cedkv.methods.objective, "off_loss", lambda *rows: 0 * real_off(*rows))


def dense(monkeypatch) -> None:
    everything = 10**6
    monkeypatch.setattr(
        cedkv.slots.mixture, "sparse_softmax", lambda logits, top_k, allowed: real_softmax(logits, everything, allowed)
    )


@pytest.mark.parametrize("check", CHECKS)
def test_the_real_loss_passes_every_check(check):
    assert check()


@pytest.mark.parametrize(
    ("break_it", "noticed_by"),
    [(flipped, approaches_the_teacher), (dropped, spares_other_texts), (dense, trains_sparse_mixtures)],
)
def test_a_broken_loss_fails_the_check_that_watches_for_it(monkeypatch, break_it, noticed_by):
    break_it(monkeypatch)
    assert not noticed_by()
