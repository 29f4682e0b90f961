"""The run-time checker that jaxtyping puts on the engine while tests run; conftest.py says where.

It looks at tensors alone, their kind and their axes; all other types are mypy's, and tests pass wrong ones on purpose.
What a function has been given once need not be looked at again: the same kinds and axes are refused or let through
alike. Without that, looking takes as long as all that is looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import UnionType
from typing import Any, Union, get_args, get_origin

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, config

Function = Callable[..., Any]


def install_shape_checks(modules: list[str]) -> None:
    """Check the shapes in these modules' signatures, in every call that brings new ones; before they are imported."""
    jaxtyping.jaxtyped = _once_per_shapes(jaxtyping.jaxtyped)  # by this name the hook finds it
    jaxtyping.install_import_hook(modules, f"{__name__}.check_tensors")


def check_tensors(function: Function) -> Function:
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


def _once_per_shapes(jaxtyped: Function) -> Function:
    """jaxtyping's decorator for what holds tensors, and for functions only as far as something is new."""

    def decorator(*, typechecker: Function) -> Function:
        def decorate(function: Any) -> Any:
            hints = getattr(function, "__annotations__", {})
            if not any(map(_holds_tensor, hints.values())):
                return function
            if isinstance(function, type) or not all(map(_seen_whole, filter(_holds_tensor, hints.values()))):
                return jaxtyped(function, typechecker=typechecker)
            return _remembering(function, lambda some: jaxtyped(some, typechecker=typechecker))

        return decorate

    return decorator


def _remembering(function: Function, checked: Callable[[Function], Function]) -> Function:
    """A function that is checked when kinds and axes of what it takes and gives come together for the first time."""
    names = function.__code__.co_varnames[: function.__code__.co_argcount + function.__code__.co_kwonlyargcount]
    looked_at = [_holds_tensor(function.__annotations__.get(name)) for name in names]
    watched, whole = {name for name, is_one in zip(names, looked_at, strict=True) if is_one}, checked(function)
    known: dict[Any, set[Any]] = {}

    @wraps(function)
    def remembering(*args: Any, **kwargs: Any) -> Any:
        given = (
            *(_shapes(value) for value, is_one in zip(args, looked_at, strict=False) if is_one),
            *((name, _shapes(value)) for name, value in kwargs.items() if name in watched),
        )
        if config.jaxtyping_disable or given not in known:
            made = whole(*args, **kwargs)
        else:
            made = function(*args, **kwargs)
            if _shapes(made) not in known[given]:
                checked(wraps(function)(lambda *_, **__: made))(*args, **kwargs)
        if not config.jaxtyping_disable:
            known.setdefault(given, set()).add(_shapes(made))
        return made

    return remembering


def _shapes(value: Any) -> Any:
    """All that the checker sees of a value."""
    if hasattr(value, "dtype"):  # a tensor; processes that only collect tests need no torch
        return value.shape, value.dtype
    return tuple(map(_shapes, value)) if isinstance(value, tuple) else type(value)


def _holds_tensor(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_holds_tensor, get_args(hint)))


def _seen_whole(hint: Any) -> bool:
    """Whether the checker looks at all of a value: of a list it looks at one tensor, by chance."""
    parts = get_args(hint)
    if not parts:
        return "{" not in getattr(hint, "dim_str", "")  # an axis computed from other arguments
    fixed = get_origin(hint) in (tuple, Union, UnionType) and ... not in parts
    return fixed and all(map(_seen_whole, parts))
