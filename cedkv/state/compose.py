"""Two relations in one prefix: the slots of one state, then those of the other. Limits in docs/use-elsewhere.md."""

from dataclasses import replace

import torch

from cedkv.errors import StateError
from cedkv.state.prefix import KVPrefix


def compose(first: KVPrefix, second: KVPrefix) -> KVPrefix:
    """One state with the slots of both, moved to positions 0..S-1, in the order given.

    Keys are kept before rotary embedding, so they move freely; but each state was made to stand alone, and the
    model decides by the query which of the two relations it sees.

    Raises
    ------
    StateError
        The states were made with different models.
    """
    if first.fingerprint != second.fingerprint:
        raise StateError(
            f"states of models {first.fingerprint} and {second.fingerprint} cannot be composed; use one model"
        )
    count = first.slots + second.slots
    return replace(
        first,
        keys=torch.cat([first.keys, second.keys], dim=2),
        values=torch.cat([first.values, second.values], dim=2),
        positions=torch.arange(count, device=first.positions.device),
        query_start=count,
        active=torch.cat([first.active, second.active], dim=1),
        mixture=None,
        meta={"method": "compose", "parts": [first.meta, second.meta]},
    )
