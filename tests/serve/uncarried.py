"""States that no engine can carry, and what is said of each whatever the engine."""

from dataclasses import replace

import pytest

NO_ENGINE_CARRIES = pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.with_injection_layers([1]), "slot 0 is switched on in some layers only"),
        (lambda state: state.without(list(range(state.slots))), "no slot that is switched on"),
        (lambda state: replace(state, fingerprint="0" * 32), "'fingerprint' is 0000"),
    ],
)
