"""What gists learn, step by step: first to stand for a note, then to be answered from, then to leave other text alone.

To stand for a note is cheap to learn and most of the way: only the first layers are run, and nothing but the gists. The
target of a gist is what the frozen model's own keys and values would be if the note stood in the gists' places.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cedkv.compressors.gist.examples import Example, NotePlan, padded_rows, widest
from cedkv.compressors.gist.mask import IGNORED, Region, gist_mask
from cedkv.config import GistConfig
from cedkv.episodes.off import PLAIN, off_stream
from cedkv.events import Event, TrainingStep, TrainingTick, Warned
from cedkv.lm import log_probs
from cedkv.lm.blocks import Block, cache_of_blocks, read_blocks
from cedkv.lm.cache import layers_of
from cedkv.lm.finetune import Batch
from cedkv.lm.gists import GistReader, gist_tokens_of
from cedkv.metrics import kl
from cedkv.optim.schedule import batch_order
from cedkv.optim.weights import Run
from cedkv.wmtp.answers import answer_scorer, answer_values, weigh_answers

NAME = "gist"
_LEAST = 1e-12
_OFF_POOL = 256
_READ_TOGETHER = 16


@dataclass
class Shelf:
    """Documents as the frozen model has read them, and their notes, each once: they do not change while gists learn.

    All layers are read at once, though standing for a note needs only the first ones: answers need them later.
    Documents of like lengths are read together, and always the same ones: a training that is taken up reads them to
    the same bits.
    """

    reader: GistReader
    examples: list[Example]
    width: int
    blocks: dict[int, Block] = field(default_factory=dict)
    notes: dict[int, Tensor] = field(default_factory=dict)

    def take(self, indices: list[int], layers: int) -> list[Block]:
        """The first `layers` of documents, each at the positions where it ends in front of the gists."""
        for index in indices:
            if index not in self.blocks:
                self._read(self._together[index])
        return [self.blocks[index][:layers] for index in indices]

    def _read(self, indices: list[int]) -> None:
        documents = [self.examples[index].document for index in indices]
        width = max(map(len, documents))
        regions = [[Region.PAD] * (width - len(one)) + [Region.CONTEXT] * len(one) for one in documents]
        mask = gist_mask(torch.tensor(regions), dtype=self.reader.lm.dtype)
        self.blocks.update(zip(indices, read_blocks(self.reader, documents, self.width, mask), strict=True))

    @cached_property
    def _together(self) -> dict[int, list[int]]:
        """The documents that are read with each of them."""
        by_length = sorted(range(len(self.examples)), key=lambda index: len(self.examples[index].document))
        groups = [by_length[at : at + _READ_TOGETHER] for at in range(0, len(by_length), _READ_TOGETHER)]
        return {index: group for group in groups for index in group}


@dataclass
class GistLesson:
    """Trains a reader's gists on made documents; `figures` are those of the last step, `judged` of the last tick."""

    reader: GistReader
    config: GistConfig
    plan: NotePlan
    train: list[Example]
    held_out: list[Example]
    judged: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.width = max(widest(self.train), widest(self.held_out))
        self.shelf = Shelf(self.reader, self.train, self.width)
        self.judges = Shelf(self.reader, self.held_out, self.width)
        self.layers = min(self.config.training.match_layers, self.reader.lm.layers)
        self.off = self._off_groups()
        self.off_base: dict[int, Tensor] = {}

    def _off_groups(self) -> list[list[tuple[int, ...]]]:
        """OFF texts of like lengths, as many together as a step takes: few logits in front of the last are wasted."""
        texts = islice(off_stream("pool", self.config.run.seed, PLAIN), _OFF_POOL)
        by_length = sorted((tuple(self.reader.lm.encode(off.text)) for off in texts), key=len)
        count = min(self.config.training.off_texts, self.config.training.batch_size)
        return [by_length[at : at + count] for at in range(0, len(by_length), count)]

    def batch(self, step: int) -> Batch:
        order = batch_order(len(self.train), self.config.training.batch_size, step, self.config.run.seed)
        return {"documents": torch.tensor(order)}

    def loss(self, model: nn.Module, batch: Batch, step: int) -> Float[Tensor, ""]:
        self.began = time.perf_counter()
        chosen, share = batch["documents"].tolist(), step / self.config.training.steps
        if share < self.config.curriculum.match_until:
            value, rest = self.match(self.shelf, chosen, model)
            self.figures = {"train/value_error": value.item(), "train/rest_error": rest.item()}
            loss = value + rest
        else:
            loss = self.answer_loss(self.shelf, chosen, model)
            self.figures = {"train/answer_loss": loss.item()}
            if share >= self.config.curriculum.off_from:
                off = self.off_delta(self.shelf, chosen, model, step)
                self.figures["train/off_delta"] = off.item()
                loss = loss + self.config.training.off_weight * off
        self.figures["train/loss"] = loss.item()
        return loss

    def match(
        self, shelf: Shelf, chosen: list[int], model: nn.Module | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """How far gists are from the note, in units of how much notes differ: where the value stands, and elsewhere."""
        told, begins = self.plan.told, self.plan.begins
        blocks = shelf.take(chosen, self.layers)
        gists = gist_tokens_of(self.reader, len(chosen))[:, :told]
        read = self._first_states(gists, blocks, True, model)
        target = self._targets(shelf, chosen, blocks)
        error = (read - target).square().mean(dim=(0, 2, 4))[1:] / self._spread[:, None]
        return error[:, begins:].mean(), error[:, :begins].mean()

    @cached_property
    def _spread(self) -> Float[Tensor, " layers"]:
        """How much the held-out notes differ from one another where their values stand, layer by layer."""
        every = list(range(len(self.held_out)))
        targets = self._targets(self.judges, every, self.judges.take(every, self.layers))
        around = (targets - targets.mean(dim=0)).square().mean(dim=(0, 2, 4))[1:, self.plan.begins :]
        return around.mean(dim=1).clamp(min=_LEAST)

    @torch.no_grad()
    def _targets(self, shelf: Shelf, chosen: list[int], blocks: list[Block]) -> Tensor:
        """What the frozen model's keys and values of the notes are in the gists' places."""
        fresh = [place for place, index in enumerate(chosen) if index not in shelf.notes]
        if fresh:
            notes = torch.tensor([shelf.examples[chosen[place]].note[: self.plan.told] for place in fresh])
            notes = notes.to(self.reader.lm.device)
            states = self._first_states(notes, [blocks[place] for place in fresh], False)
            shelf.notes.update(zip([chosen[place] for place in fresh], states, strict=True))
        return torch.stack([shelf.notes[index] for index in chosen])

    def _first_states(
        self, ids: Int[Tensor, "batch told"], blocks: list[Block], adapter: bool, model: nn.Module | None = None
    ) -> Float[Tensor, "batch layers both_heads told head_dim"]:
        told = ids.shape[1]
        regions = self._regions(blocks, told, 0)
        mask = gist_mask(regions, sink=self.reader.shape.sink, dtype=self.reader.lm.dtype)[:, :, self.width :]
        positions = torch.arange(self.width, self.width + told, device=ids.device).expand(len(ids), -1)
        with self.reader.first_layers(self.layers):
            past = cache_of_blocks(blocks, self.width)
            _, cache = self.reader.run(ids, positions, mask, past, reads=0, adapter=adapter, through=model)
        both = [torch.cat([layer.keys, layer.values], dim=1)[:, :, self.width :] for layer in layers_of(cache)]
        return torch.stack(both, dim=1).float()

    def answer_loss(self, shelf: Shelf, chosen: list[int], model: nn.Module | None = None) -> Float[Tensor, ""]:
        """Cross-entropy of the answers behind gists, or KL(teacher || student) to the model that sees the document.

        A mean over answer tokens, weighted where the settings say so.
        """
        logits, labels = self._answers(shelf, chosen, True, model)
        told, training = labels != IGNORED, self.config.training
        student, said = logits[told].float().log_softmax(-1), labels[told]
        losses = nn.functional.nll_loss(student, said, reduction="none")
        if training.loss == "ce" and self._scorer is None:
            return losses.mean()
        with torch.no_grad():
            teacher = self._answers(shelf, chosen, False)[0][told].float().log_softmax(-1)
        apart = losses if training.loss == "ce" else kl(teacher, student)
        if self._scorer is None:
            return apart.mean()
        reference, lengths = nn.functional.nll_loss(teacher, said, reduction="none"), told.sum(dim=1).tolist()
        tokens, behind, known = (row.split(lengths) for row in (said, losses.detach(), reference))
        values = [self._values[index] for index in chosen] if self._values else []
        return (weigh_answers(self._scorer, tokens, behind, known, values) * apart).mean()

    @cached_property
    def _scorer(self) -> Run | None:
        return answer_scorer(self.config.training.token_weights)

    @cached_property
    def _values(self) -> list[Float[Tensor, " places"]]:
        """A critic's values of the training's answers behind their whole documents; none where none are needed."""
        if self.config.training.token_weights != "critic":
            return []
        lead = len(self.reader.lm.bos)
        ids = [(*one.document[lead:], *one.query, *one.answer) for one in self.train]
        return answer_values(self.reader.lm, ids, [len(one.answer) for one in self.train])

    def _answers(
        self, shelf: Shelf, chosen: list[int], student: bool, model: nn.Module | None = None
    ) -> tuple[Float[Tensor, "batch reads vocab"], Int[Tensor, "batch reads"]]:
        """Logits in front of every answer token, and that token; the teacher has the document in place of gists."""
        some = [shelf.examples[index] for index in chosen]
        rows = padded_rows([(*one.query, *one.answer) for one in some], self.plan.blank)
        labels = padded_rows([(*([IGNORED] * len(one.query)), *one.answer) for one in some], IGNORED)
        first = min(len(one.query) for one in some)
        logits = self._behind(shelf, chosen, rows, rows.shape[1] - first + 1, student, model)
        return logits[:, :-1], labels[:, first:].to(logits.device)

    def off_delta(self, shelf: Shelf, chosen: list[int], model: nn.Module | None, step: int) -> Float[Tensor, ""]:
        """Mean `Delta` of other texts behind the gists of these documents, nats."""
        (group,) = batch_order(len(self.off), 1, step, self.config.run.seed)
        ids = self.off[group]
        base, shortest = self._base_on_off(group), min(map(len, ids))
        rows = padded_rows(ids, self.plan.blank)
        logits = self._behind(shelf, chosen[: len(ids)], rows, rows.shape[1] - shortest + 1, True, model)
        last = torch.tensor([len(row) - shortest for row in ids], device=logits.device)
        student = logits[torch.arange(len(ids), device=last.device), last].float().log_softmax(-1)
        return kl(student, base).mean()

    def _base_on_off(self, group: int) -> Float[Tensor, "texts vocab"]:
        """What the frozen model says behind a group of OFF texts, read once."""
        if group not in self.off_base:
            self.off_base[group] = log_probs(self.reader.lm, self.off[group])
        return self.off_base[group]

    def _behind(
        self, shelf: Shelf, chosen: list[int], rows: Tensor, reads: int, student: bool, model: nn.Module | None = None
    ) -> Float[Tensor, "batch reads vocab"]:
        """Rows behind gists that have read a document, or behind the document itself; one pass."""
        reader, device = self.reader, self.reader.lm.device
        blocks = shelf.take(chosen, reader.lm.layers)
        gists = gist_tokens_of(reader, len(chosen)) if student else gist_tokens_of(reader, len(chosen))[:, :0]
        ids = torch.cat([gists, rows.to(device)], dim=1)
        regions = self._regions(blocks, gists.shape[1], rows.shape[1])
        mask = gist_mask(regions, sink=reader.shape.sink, dtype=reader.lm.dtype)[:, :, self.width :]
        positions = torch.arange(self.width, self.width + ids.shape[1], device=device).expand(len(ids), -1)
        past = cache_of_blocks(blocks, self.width)
        return reader.run(ids, positions, mask, past, reads, through=model)[0]

    def _regions(self, blocks: list[Block], gists: int, query: int) -> Int[Tensor, "batch tokens"]:
        lengths = [block.shape[-2] for block in blocks]
        rows = [
            [Region.PAD] * (self.width - length) + [Region.CONTEXT] * length
            + [Region.GIST] * gists + [Region.QUERY] * query
            for length in lengths
        ]  # fmt: skip
        return torch.tensor(rows, device=self.reader.lm.device)

    def told(self, step: int, grad_norm: float) -> Iterable[Event]:
        seconds, training = time.perf_counter() - self.began, self.config.training
        self.figures["train/grad_norm"] = grad_norm
        yield TrainingStep(NAME, step, training.steps, self.figures["train/loss"], dict(self.figures), seconds)
        if grad_norm > training.watched_grad_norm:
            yield Warned(f"step {step}: gradient norm {grad_norm:.1f} is above {training.watched_grad_norm:g}")
        if (step + 1) % training.tick_every == 0 or step + 1 == training.steps:
            self.judged = self.judge(step)
            yield TrainingTick(NAME, step, next(iter(self.judged.values())), self.judged)

    @torch.no_grad()
    def judge(self, step: int) -> dict[str, float]:
        """How the gists do on held-out documents; answers are read once they are what is learnt, and at the end."""
        training, every = self.config.training, list(range(len(self.held_out)))
        training_now = self.reader.model.training
        self.reader.model.eval()
        try:
            if (step + 1) / training.steps <= self.config.curriculum.match_until and step + 1 < training.steps:
                value, rest = self.match(self.judges, every)
                return {"eval/value_error": value.item(), "eval/rest_error": rest.item()}
            logits, labels = self._answers(self.judges, every, True)
        finally:
            self.reader.model.train(training_now)
        told = labels != IGNORED
        right = (logits.argmax(dim=-1) == labels) | ~told
        loss = nn.functional.cross_entropy(logits[told].float(), labels[told])
        return {
            "eval/answer_loss": loss.item(),
            "eval/token_accuracy": (right & told).sum().item() / told.sum().item(),
            "eval/answer_accuracy": right.all(dim=1).float().mean().item(),
        }
