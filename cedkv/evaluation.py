"""Judging a prefix: base, teacher and student on the same queries and texts, with base and teacher read once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cedkv.episodes import Episode
from cedkv.episodes.off import OffSet
from cedkv.lm import LanguageModel, generate, iter_log_probs, read_lead
from cedkv.metrics import exact_match, first_token_correct, kl, off_summary, rel_kl
from cedkv.probe import OffProbe
from cedkv.report import OffScores, OnScores
from cedkv.state import KVPrefix


@dataclass(frozen=True)
class OnView:
    """One view of the ON queries.

    first : log-probabilities of the answer's first token that is no blank; blanks in front of it are given.
    answer_logprob : log-probability of the whole gold answer, nats.
    correct : whether that first token, and any blank in front of it, is the most likely one.
    """

    first: Float[Tensor, "queries vocab"]
    answer_logprob: Float[Tensor, " queries"]
    correct: Bool[Tensor, " queries"]

    @property
    def accuracy(self) -> float:
        return self.correct.float().mean().item()


class Scorer(Protocol):
    """Says which generated answers are right, beside the gold ones; `stop` ends an answer."""

    def __call__(self, generated: Sequence[str], gold: Sequence[str], stop: str) -> list[bool]: ...


@dataclass(frozen=True)
class Judge:
    """Base and teacher on an episode's ON-eval queries and OFF sets, against which any prefix is judged.

    Everything that does not depend on the judged prefix is computed once, on first use.

    scorer : which whole answers are right.
    """

    lm: LanguageModel
    episode: Episode
    teacher: KVPrefix
    off_sets: dict[str, OffSet]
    scorer: Scorer = exact_match

    @cached_property
    def answer_room(self) -> int:
        """Tokens of the longest gold answer with its end: what runs on beyond is wrong anyway."""
        end = len(self.lm.encode(self.episode.stop))
        return max(len(query.answer_ids) for query in self.episode.on_eval) + end

    @cached_property
    def lead(self) -> KVPrefix | None:
        """What stands in front of a query alone, where the episode's template puts something there."""
        return read_lead(self.lm, self.episode.tokens)

    @cached_property
    def base_on(self) -> OnView:
        return self.on_view(None)

    @cached_property
    def teacher_on(self) -> OnView:
        return self.on_view(self.teacher)

    @cached_property
    def off_probes(self) -> dict[str, OffProbe]:
        return {
            name: OffProbe(self.lm, [off.text for off in texts.texts], f"{name} texts")
            for name, texts in self.off_sets.items()
        }

    def on_view(self, prefix: KVPrefix | None) -> OnView:
        """The view of one prefix, or of the base: first-token distributions and the gold answers' log-probability."""
        prefix, queries = prefix or self.lead, self.episode.on_eval
        texts = [[*query.ids, *query.answer_ids[:-1]] for query in queries]
        reads = [len(query.answer_ids) for query in queries]
        firsts, answers, correct = [], [], []
        for part, rows in iter_log_probs(self.lm, texts, prefix, reads):
            counts = torch.tensor(reads[part])
            gold = torch.tensor([token for query in queries[part] for token in query.answer_ids], device=rows.device)
            picked = rows.gather(1, gold[:, None])[:, 0]
            blanks = torch.tensor([query.blanks for query in queries[part]])
            firsts.append(rows[(counts.cumsum(0) - counts + blanks).to(rows.device)])
            answers.append(torch.stack([answer.sum() for answer in picked.split(counts.tolist())]))
            right = first_token_correct(rows, gold).split(counts.tolist())
            correct += [tokens[: query.blanks + 1].all() for query, tokens in zip(queries[part], right, strict=True)]
        return OnView(torch.cat(firsts), torch.cat(answers), torch.stack(correct))

    def delta_on(self, view: OnView) -> Float[Tensor, " queries"]:
        """`Delta` on ON queries: KL(student || base), nats."""
        return kl(view.first, self.base_on.first)

    def observe(self, prefix: KVPrefix) -> dict[str, float]:
        """What a training tick records of a state on the evaluation queries."""
        view = self.on_view(prefix)
        return {
            "eval_accuracy": view.accuracy,
            "eval_kl": kl(self.teacher_on.first, view.first).mean().item(),
            "eval_answer_logprob": view.answer_logprob.mean().item(),
        }

    def on_scores(self, view: OnView) -> OnScores:
        """The report's `on` entry of one view, means over queries; divergences in nats."""
        teacher, base = self.teacher_on.first, self.base_on.first
        student_teacher = kl(view.first, teacher).mean()
        return {
            "accuracy": view.accuracy,
            "gain": view.accuracy - self.base_on.accuracy,
            "kl_to_teacher": kl(teacher, view.first).mean().item(),
            "kl_student_teacher": student_teacher.item(),
            "rel_kl_to_teacher": rel_kl(student_teacher, kl(base, teacher).mean()).item(),
            "answer_logprob": view.answer_logprob.mean().item(),
            "answer_logprob_gain": (view.answer_logprob - self.base_on.answer_logprob).mean().item(),
            "delta_on_mean": self.delta_on(view).mean().item(),
        }

    def scores(self, prefix: KVPrefix | None) -> OnScores:
        """The report's `on` entry of a prefix: `on_scores` and its greedy whole answers."""
        return {**self.on_scores(self.on_view(prefix)), "whole_answer": self.whole_answer(prefix)}

    def answers(
        self, prefix: KVPrefix | None, max_new_tokens: int = 0, temperature: float = 0.0, seed: int = 0
    ) -> list[str]:
        """Generated answers, each up to its end; as long as the longest gold answer where that is longer."""
        ids = [query.ids for query in self.episode.on_eval]
        room = max(max_new_tokens, self.answer_room)
        return generate(self.lm, ids, prefix or self.lead, room, temperature, seed, stop=self.episode.stop)

    def right(self, answers: Sequence[str]) -> list[bool]:
        """Which whole answers are right."""
        return self.scorer(answers, [query.answer for query in self.episode.on_eval], stop=self.episode.stop)

    def whole_answer(self, prefix: KVPrefix | None) -> float:
        """Share of the queries whose whole greedy answer is right."""
        matches = self.right(self.answers(prefix))
        return sum(matches) / len(matches)

    def delta_off(self, prefix: KVPrefix | None, split: str) -> Float[Tensor, " texts"]:
        """`Delta` in nats for every text of an OFF set; raises what `OffProbe.delta` raises."""
        return self.off_probes[split].delta(prefix)

    def off_scores(self, delta: Float[Tensor, " texts"], split: str) -> OffScores:
        """The report's `off` entry of one OFF set: over all texts, and per bucket."""
        return off_summary(delta, [off.bucket for off in self.off_sets[split].texts])
