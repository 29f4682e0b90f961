"""Which state a request asks for, and every way in which it may be asked wrongly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .client import PARAMETER
from .errors import Refused
from .folder import StateFolder
from .state import SALT_PREFIX, State


@dataclass(frozen=True)
class Asked:
    """What a request says, as far as a state depends on it.

    Attributes
    ----------
    prompt : its token ids; None for a prompt of embeddings.
    reads_prompt : it asks for log-probabilities of the prompt, for which vLLM computes all of it anew.
    other : what else of it a state cannot stand beside, in words; empty for nothing.
    """

    parameters: Mapping[str, Any] | None
    salt: str | None
    prompt: Sequence[int] | None
    reads_prompt: bool = False
    other: str = ""


def state_for(asked: Asked, states: StateFolder) -> State | None:
    """The state that a request asks for; None where it asks for none.

    Raises
    ------
    Refused
        It cannot be served: it would get wrong answers, or another request would.
    """
    parameters = asked.parameters if isinstance(asked.parameters, Mapping) else {}
    if PARAMETER not in parameters:
        # Its blocks would lie in the prefix cache as if they were the state's.
        if (asked.salt or "").startswith(SALT_PREFIX):
            raise Refused(f"cache_salt {asked.salt!r:.90} is a state's, and the request names no {PARAMETER}")
        return None
    state, name = states.get(parameters[PARAMETER]), parameters[PARAMETER]
    if asked.salt != state.salt:
        # Without it vLLM's prefix cache would hand one state's blocks to another's requests.
        raise Refused(f"state {name!r} needs its own cache_salt {state.salt!r}, the request's is {asked.salt!r:.90}")
    if asked.reads_prompt:
        raise Refused(
            "prompt_logprobs, and echo with logprobs, make vLLM compute the placeholders as text; leave them out"
        )
    if asked.other or asked.prompt is None:
        raise Refused(f"{asked.other or 'a prompt of embeddings'} cannot go with a state; leave it out")
    _check_placeholders(asked.prompt, state.slots, states.placeholder, name)
    return state


def _check_placeholders(prompt: Sequence[int], slots: int, placeholder: int, name: str) -> None:
    """One placeholder for each slot, first of all, and then a query."""
    given = next((i for i, token in enumerate(prompt) if token != placeholder), len(prompt))
    if given != slots:
        raise Refused(f"state {name!r} has {slots} slots, the prompt starts with {given} placeholders ({placeholder})")
    if len(prompt) == slots:
        raise Refused(f"the prompt for state {name!r} ends with its {slots} placeholders; put a query behind them")
