"""What a text that only looks like a query may reuse: the episode's template."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cedkv.errors import ConfigError

_FIELD = re.compile(r"\{(?:input|output)\}")


@dataclass(frozen=True)
class NearFormat:
    """The template of one demonstration.

    Parameters
    ----------
    template : str
        Holds ``{input}`` and ``{output}`` once each, e.g. ``"Q: {input}\\nA: {output}\\n\\n"``.

    Raises
    ------
    ConfigError
        If a field is missing or repeated.
    """

    template: str

    def __post_init__(self) -> None:
        if sorted(_FIELD.findall(self.template)) != ["{input}", "{output}"]:
            raise ConfigError(f"template {self.template!r} must hold {{input}} and {{output}} exactly once each")

    @cached_property
    def pieces(self) -> tuple[str, str, str]:
        """Text before the first field, between the fields and after the second one.

        Spaces before a field are left out, because the frames write their own.
        """
        before, between, after = _FIELD.split(self.template)
        return before, between.rstrip(" "), after

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """The pieces that can be seen, without the blanks around them."""
        return tuple(piece.strip() for piece in self.pieces if piece.strip())

    @cached_property
    def slots(self) -> Mapping[str, tuple[str, ...]]:
        """The slots of the ``near_format`` frames, see ``data/near_format.txt``."""
        before, between, after = self.pieces
        item = f"«name»{between} «city»{after}"
        return {
            "open": (before,),
            "middle": (between,),
            "close": (after,),
            "mark": self.marks or ("...",),
            "start": (before if before.strip() else item,),
        }


# Of blocks that have no template.
PLAIN = NearFormat("{input}\n{output}\n")
