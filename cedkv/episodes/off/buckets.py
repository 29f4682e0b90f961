"""The buckets: one style or format of text each."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from cedkv.episodes.off.grammar import expand, read_lines
from cedkv.episodes.off.length import cut
from cedkv.episodes.off.near import NearFormat


@dataclass(frozen=True)
class Maker:
    """Makes the texts of one bucket out of its frames.

    Parameters
    ----------
    frames : tuple of str
        Source sentences with slots.
    whole : float
        Share of texts left whole; the others are cut mid-sentence, where the next token tells most.
    """

    frames: tuple[str, ...]
    whole: float

    def __call__(self, rng: random.Random, near: NearFormat) -> str:
        """One random text."""
        text = expand(rng.choice(self.frames), rng, near.slots).strip()
        return text if rng.random() < self.whole else cut(text, rng)

    def restricted(self, keep: Callable[[str], bool]) -> "Maker":
        """The same maker with only the frames that ``keep`` accepts."""
        return replace(self, frames=tuple(filter(keep, self.frames)))


BUCKETS: dict[str, Maker] = {
    "prose": Maker(read_lines("prose"), whole=0.1),
    "dialogue": Maker(read_lines("dialogue"), whole=0.3),
    "code": Maker(read_lines("code"), whole=0.3),
    "list_table": Maker(read_lines("list_table"), whole=0.3),
    "question": Maker(read_lines("question"), whole=0.5),
    "instruction": Maker(read_lines("instruction"), whole=0.4),
    "other_language": Maker(read_lines("other_language"), whole=0.2),
    "numbers": Maker(read_lines("numbers"), whole=0.4),
    "near_format": Maker(read_lines("near_format"), whole=1.0),  # a cut could lose the delimiters
}
