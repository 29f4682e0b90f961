"""Gate A: is the plumbing sound? Identities that hold whatever the demonstrations say."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from cedkv.evaluation import Judge
from cedkv.events import GateCriterion
from cedkv.lm import LanguageModel, log_probs
from cedkv.metrics import kl, rel_kl
from cedkv.state import KVPrefix, pad_with_null_slots

# Queries on which identities are checked: they hold for all or for none.
_QUERIES = 8
# What rounding may cost, as KL in nats: about ten times what was measured on the embedded model.
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 1e-3}
NONZERO = 1e-2


def check_plumbing(judge: Judge, student: KVPrefix) -> Iterator[GateCriterion]:
    """Yield Gate A's identities: cached teacher, null prefix, file round trip; and that the student does anything."""
    lm, episode = judge.lm, judge.episode
    queries = [query.asked_ids for query in episode.on_eval[:_QUERIES]]
    rounding = ROUNDING[lm.dtype]
    teacher = judge.teacher_on.first[:_QUERIES]
    base = judge.base_on.first[:_QUERIES]

    prompts = log_probs(lm, [_without_bos(lm, episode.tokens.ids) + list(query) for query in queries])
    yield _criterion(
        "teacher_incremental_consistency",
        kl(prompts, teacher).max().item(),
        "<=",
        rounding,
        "The cached demonstrations answer like the demonstrations in the prompt (largest KL, nats).",
    )
    null = pad_with_null_slots(student.without(list(range(student.slots))), student.slots + 1)
    # What leads the demonstrations belongs to the prefix; behind one that is switched off the query brings its own.
    alone = [[*episode.tokens.lead().ids, *query] for query in queries]
    yield _criterion(
        "null_effect",
        kl(log_probs(lm, alone, null), base).max().item(),
        "<=",
        rounding,
        "A prefix of switched-off slots changes nothing (largest Delta, nats).",
    )
    yield _criterion(
        "nonzero_effect",
        kl(log_probs(lm, queries, student), base).mean().item(),
        ">=",
        NONZERO,
        "The student's slots do change the answers (mean Delta on ON queries, nats).",
    )
    again = log_probs(lm, queries, _file_round_trip(judge.teacher))
    yield _criterion(
        "roundtrip_rel_kl",
        rel_kl(kl(again, teacher).mean(), kl(base, teacher).mean()).item(),
        "<=",
        rounding,
        "The demonstrations' KV, saved and read again, still is the teacher (KL relative to the base's).",
    )


def repeat_criterion(accuracies: list[float], tolerance: float) -> GateCriterion:
    """Whether repeats of the student's extraction and evaluation agree."""
    return _criterion(
        "repeat_tolerance",
        max(accuracies) - min(accuracies),
        "<=",
        tolerance,
        f"{len(accuracies)} repeats of extraction and evaluation give the same accuracy (largest difference).",
    )


def _criterion(name: str, value: float, op: str, threshold: float, about: str) -> GateCriterion:
    passed = value <= threshold if op == "<=" else value >= threshold
    return GateCriterion("A", name, value, op, threshold, passed, about)


def _without_bos(lm: LanguageModel, ids: tuple[int, ...]) -> list[int]:
    """The prompt's ids without the token that the base view puts in front by itself."""
    return list(ids[len(lm.bos) :])


def _file_round_trip(prefix: KVPrefix) -> KVPrefix:
    with tempfile.TemporaryDirectory() as folder:
        prefix.save(Path(folder) / "state.safetensors")
        return KVPrefix.load(Path(folder) / "state.safetensors", prefix.fingerprint)
