"""What a comparison is, as plain data: a face can show a stored one before torch is there."""

from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """One column: what this view generates and what it expects next.

    tokens, probabilities, teacher_probabilities : the view's most likely next tokens, what it gives them and what
        the teacher gives them.
    delta : KL(this view || base), nats. kl_to_teacher : KL(teacher || this view), nats; as in the report's `on`.
    """

    name: str
    tokens: tuple[str, ...]
    probabilities: tuple[float, ...]
    teacher_probabilities: tuple[float, ...]
    delta: float
    kl_to_teacher: float
    text: str = ""


@dataclass(frozen=True)
class Comparison:
    """The same query in several views. `done` once all text is there."""

    query: str
    views: tuple[View, ...]
    done: bool = False

    def view(self, name: str) -> View:
        return next(view for view in self.views if view.name == name)
