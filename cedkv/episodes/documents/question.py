"""A document and one question about it, in the fields that LongBench and RULER files have."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Question:
    """What is asked of a document.

    answer_prefix : how the answer begins, which is given; a query is `question` and `answer_prefix`.
    answers : each of them is to be in the generated text.
    note : what of the document matters, in one sentence; empty where nobody knows. A training's target, never read
        when a document is compressed.
    about : kind, depth, and whatever else a table is sorted by.
    """

    context: str
    question: str
    answers: tuple[str, ...]
    answer_prefix: str = ""
    max_new_tokens: int = 16
    note: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def query(self) -> str:
        """The text that stands behind the document."""
        return self.question + self.answer_prefix
