"""How much is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sizes and repeats. Every figure is a median of its repeats; what is compared takes turns.

    slots : sizes at which extraction is timed, with `usual_demos` demonstrations.
    demos : counts of demonstrations at which extraction, with `usual_slots` slots, and latency are measured.
    step_seconds : a dtype whose training steps would take longer than this, as its matrix products tell, is left out.
    """

    name: str
    slots: tuple[int, ...]
    demos: tuple[int, ...]
    usual_slots: int
    usual_demos: int
    extractions: int
    steps: int
    answers: int
    new_tokens: int
    step_seconds: float = 180.0

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Every (slots, demonstrations) that is extracted."""
        return list(
            dict.fromkeys(
                [
                    *((slots, self.usual_demos) for slots in self.slots),
                    *((self.usual_slots, demos) for demos in self.demos),
                ]
            )
        )


FULL = Plan(
    "full",
    slots=(2, 4, 8, 16),
    demos=(5, 10, 20, 40),
    usual_slots=8,
    usual_demos=10,
    extractions=2,
    steps=12,
    answers=7,
    new_tokens=32,
)
QUICK = Plan(
    "quick",
    slots=(4, 8),
    demos=(5, 10),
    usual_slots=8,
    usual_demos=10,
    extractions=1,
    steps=3,
    answers=3,
    new_tokens=8,
)
