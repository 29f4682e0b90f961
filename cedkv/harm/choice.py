"""A small probe of what the model can do: multiple choice, answered from examples in the text itself."""

from collections.abc import Generator

import torch
from jaxtyping import Bool
from torch import Tensor

from cedkv.episodes.relation import RelationEpisode, foreign_questions, get_template
from cedkv.events import Progress
from cedkv.harm.beside import Asked, Views, beside_base
from cedkv.report import ChoiceScores

_NO_FORMAT = "{input}\n{output}\n"


def choice(asked: Asked, views: Views) -> Generator[Progress, None, dict[str, ChoiceScores]]:
    """`accuracy` and the `base`'s own on the same questions, and how often both choose the same (`agreement`)."""
    own = asked.episode
    template = own.template if isinstance(own, RelationEpisode) else get_template(_NO_FORMAT)
    questions = foreign_questions(asked.lm, own.task, template, asked.settings.questions)
    right = torch.tensor([question.right for question in questions])
    chosen: dict[str, list[Tensor]] = {name: [] for name in (*views, "")}
    for part, base, behind in beside_base(asked.lm, [question.ids for question in questions], views):
        options = torch.tensor([question.options for question in questions[part]], device=base.device)
        for name, rows in {**behind, "": base}.items():
            chosen[name].append(rows.gather(1, options).argmax(-1).cpu())
        yield Progress("asking simple questions", part.stop, len(questions))
    if not questions:
        return {}
    answers = {name: torch.cat(parts) for name, parts in chosen.items()}
    base_answers = answers.pop("")
    return {
        name: {
            "count": len(questions),
            "accuracy": _share(given == right),
            "base": _share(base_answers == right),
            "agreement": _share(given == base_answers),
        }
        for name, given in answers.items()
    }


def _share(hits: Bool[Tensor, " questions"]) -> float:
    return hits.float().mean().item()
