"""Harm as users meet it: what a prefix does to real text, other relations, continuations and simple questions.

`Delta` on the frozen OFF sets is `cedkv.probe`'s. Here stand the neutral prefixes that say how much any text in front
costs, and the measures that read more than the next token. A measure is one file and a line in `MEASURES`.
"""

from cedkv.harm.beside import Asked, Figures, Measure
from cedkv.harm.measures import MEASURES, harm_of, iter_harm
from cedkv.harm.yardsticks import YARDSTICKS, yardstick, yardsticks

__all__ = ["MEASURES", "YARDSTICKS", "Asked", "Figures", "Measure", "harm_of", "iter_harm", "yardstick", "yardsticks"]
