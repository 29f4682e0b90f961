"""Layer scopes: which layers a setting speaks of."""

import re
from collections.abc import Sequence

from cedkv.errors import ConfigError


def layers_in_scope(scope: str | list[int], layers: int, ranking: Sequence[int]) -> list[int]:
    """Layer indices of a scope, ascending.

    `all`; `top25`, the quarter of the layers that comes first in `ranking`; `last_n` with a number, such as
    `last_8`; or an explicit list, where negative indices count from the end.

    Raises
    ------
    ConfigError
        The scope is unknown, empty, or names a layer the model does not have.
    """
    if scope == "all":
        return list(range(layers))
    if scope == "top25":
        return sorted(ranking[: max(1, round(layers / 4))])
    if isinstance(scope, str):
        match = re.fullmatch(r"last_([0-9]{1,9})", scope)
        if match is None or not 1 <= int(match[1]) <= layers:
            raise ConfigError(
                f"layer scope {scope!r} is unknown; use all, top25, last_n with n from 1 to {layers}, or a list"
            )
        return list(range(layers - int(match[1]), layers))
    wrong = [layer for layer in scope if not -layers <= layer < layers]
    if wrong or not scope:
        raise ConfigError(f"layer scope {scope!r} is not a list of layers from 0 to {layers - 1}")
    return sorted({layer % layers for layer in scope})
