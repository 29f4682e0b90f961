"""A quicker import of gradio. To be used before anything else imports it."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without_stubs() -> Iterator[None]:
    """In here gradio's import does not compare each component with a `.pyi` file beside it, 1.0 of its 2.6 s.

    The stubs serve an editor. Gradio leaves a component alone whose source file `inspect.getfile` does not find.
    """
    getfile = inspect.getfile

    def not_of_components(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith("gradio."):
            raise OSError("a component without a stub")
        return getfile(thing)

    inspect.getfile = not_of_components  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = getfile
