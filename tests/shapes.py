"""The run-time checker that jaxtyping puts on the engine while tests run; conftest.py says where.

It looks at tensors alone, their kind and their axes; all other types are mypy's, and tests pass wrong ones on purpose.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, config


def check_tensors(function: Callable[..., Any]) -> Callable[..., Any]:
    """beartype, for the annotations that hold a tensor."""
    own = function.__annotations__
    function.__annotations__ = {name: hint for name, hint in own.items() if _holds_tensor(hint)}
    return beartype(function)


@contextmanager
def unchecked() -> Iterator[None]:
    """For a test that passes wrong shapes on purpose, to see them refused by the code itself."""
    config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        config.update("jaxtyping_disable", False)


def _holds_tensor(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_holds_tensor, get_args(hint)))
