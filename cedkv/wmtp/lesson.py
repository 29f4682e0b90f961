"""One weighted multi-token training: its batches, its loss, and what it tells."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from cedkv.config import TrainSettings
from cedkv.events import Event, TrainingStep, TrainingTick
from cedkv.lm.finetune import Batch
from cedkv.optim.schedule import batch_order
from cedkv.optim.weights import Run, TokenBatch
from cedkv.optim.weights.base import IGNORED
from cedkv.wmtp.data import Tokens
from cedkv.wmtp.loss import horizon_losses, weighted_mean
from cedkv.wmtp.metrics import Judged, padded, require_sound, weight_figures


@dataclass(frozen=True)
class Readings:
    """Texts to train on, tokenised, and what scorers read of them; a list is empty where no scorer needs it.

    unpredicted : leading tokens of a text that nothing predicts.
    """

    texts: list[Tokens]
    unpredicted: int
    reference_loss: list[Float[Tensor, " _tokens"]] = field(default_factory=list)
    values: list[Float[Tensor, " _states"]] = field(default_factory=list)


@dataclass
class WeightedLesson:
    """Trains a wrapper on texts whose tokens a scorer weighs.

    judge : how the wrapper does on held-out texts.
    judged : what it said last.
    """

    name: str
    settings: TrainSettings
    horizon: int
    seed: int
    readings: Readings
    run: Run
    judge: Callable[[], Judged]
    judged: Judged | None = None
    figures: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def batch(self, step: int) -> Batch:
        chosen = batch_order(len(self.readings.texts), self.settings.batch, step, self.seed)
        ids, mask = padded([self.readings.texts[index].ids for index in chosen], torch.device("cpu"))
        targets = ids.masked_fill(mask == 0, IGNORED)
        targets[:, : self.readings.unpredicted] = IGNORED
        columns = {"reference_loss": self.readings.reference_loss, "values": self.readings.values}
        read = {name: _rows(column, chosen) for name, column in columns.items() if column}
        return {"input_ids": ids, "attention_mask": mask, "targets": targets, **read}

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Float[Tensor, ""]:
        """The weighted loss of a step.

        Raises
        ------
        NonFiniteError
            A weight is not a finite number, or extreme; the step is named.
        """
        self.began = time.perf_counter()
        horizon = heads_at(step, self.settings.steps, self.horizon) if self.settings.curriculum else self.horizon
        logits = model(batch["input_ids"], horizon, attention_mask=batch["attention_mask"])
        targets = batch["targets"]
        tokens = TokenBatch(
            targets, next_token_losses(logits[:, :, 0], targets), batch.get("reference_loss"), batch.get("values")
        )
        weights = self._weigh(tokens, step)
        losses, sums = horizon_losses(logits, targets, weights, horizon)
        loss = weighted_mean(losses, sums)
        per_head = (losses / sums.clamp(min=1e-9)).tolist()
        self.figures |= {f"train/head_{head + 1}_loss": value for head, value in enumerate(per_head)}
        self.figures["train/loss"] = loss.item()
        return loss

    @torch.no_grad()
    def _weigh(self, tokens: TokenBatch, step: int) -> Float[Tensor, "batch tokens"]:
        """The scorer's weights, found sound and clipped."""
        told, limits = self.run(tokens), self.settings.weights
        weights = told["weights"][tokens.valid]
        self.figures = weight_figures(weights, limits.extreme)
        if "delta" in told:
            self.figures["train/critic_delta_mean"] = told["delta"].mean().item()
        require_sound(self.figures, step, limits.extreme)
        return tokens.spread(weights.clamp(max=limits.clip))

    def told(self, step: int, grad_norm: float) -> Iterable[Event]:
        self.figures["train/grad_norm"] = grad_norm
        seconds, steps = time.perf_counter() - self.began, self.settings.steps
        yield TrainingStep(self.name, step, steps, self.figures["train/loss"], dict(self.figures), seconds)
        if (step + 1) % self.settings.tick_every == 0 or step + 1 == steps:
            self.judged = self.judge()
            figures = self.judged.figures()
            yield TrainingTick(self.name, step, figures["eval/important_token_error"], figures)


def heads_at(step: int, steps: int, horizon: int) -> int:
    """The forward curriculum: one head at first, one more at equal distances, all from the middle on.

    References
    ----------
    Aynetdinov and Akbik 2025, Pre-training curriculum for multi-token prediction in language models.
    """
    return min(horizon, 1 + 2 * step * (horizon - 1) // steps)


@torch.no_grad()
def next_token_losses(
    logits: Float[Tensor, "batch tokens vocab"], targets: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch tokens"]:
    """The loss on every target in its own place, nats; 0 where nothing is predicted."""
    losses = torch.zeros(targets.shape, device=logits.device)
    valid = targets[:, 1:] != IGNORED
    losses[:, 1:][valid] = cross_entropy(logits[:, :-1][valid].float(), targets[:, 1:][valid], reduction="none")
    return losses


def _rows(column: Sequence[Float[Tensor, " _tokens"]], chosen: Sequence[int]) -> Float[Tensor, "batch tokens"]:
    return pad_sequence([column[index].cpu() for index in chosen], batch_first=True)
