"""The methods there are: those of this package, and those that other packages offer as entry points.

Another package offers one in the group `cedkv.methods`, by an entry point whose name is the method's and whose
object is a `Method`. It is loaded when its name is asked for or all methods are listed.
"""

import warnings
from collections.abc import Iterator, MutableMapping
from importlib.metadata import EntryPoint, entry_points

from cedkv.errors import ConfigError
from cedkv.methods.base import Method

GROUP = "cedkv.methods"


class MethodWarning(UserWarning):
    """A method of another package cannot be used."""


class Methods(MutableMapping[str, Method]):
    """Methods by name, in the order of their registration, those of other packages last.

    One of another package that cannot be loaded, or that has the name of one there is, is warned of once and left out;
    asked for by its name it is an error.
    """

    def __init__(self, own: dict[str, Method]) -> None:
        self._known = dict(own)
        self._offered: dict[str, EntryPoint] | None = None
        self._refused: dict[str, str] = {}
        self._packages: dict[str, str] = {}

    def __getitem__(self, name: str) -> Method:
        if name not in self._known:
            self._discover()
            self._load(name)
        if name in self._refused and name not in self._known:
            raise ConfigError(self._refused[name])
        return self._known[name]

    def __setitem__(self, name: str, method: Method) -> None:
        self._known[name] = method

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        self._load_all()
        return iter(list(self._known))

    def __len__(self) -> int:
        self._load_all()
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        if name not in self._known:
            self._discover()
            self._load(name)
        return name in self._known

    def why_refused(self, name: str) -> str:
        """Why a method of another package cannot be used; empty where there is none of that name."""
        return self._refused.get(name, "")

    def package(self, name: str) -> str:
        """Name and version of the package that a method comes from; empty for this package's own."""
        return self._packages.get(name, "") if name in self else ""

    def _load_all(self) -> None:
        self._discover()
        for name in list(self._offered or ()):
            self._load(name)

    def _discover(self) -> None:
        if self._offered is not None:
            return
        self._offered = {}
        for offer in entry_points(group=GROUP):
            if offer.name in self._known or offer.name in self._offered:
                other = "this package's own" if offer.name in self._known else _package(self._offered[offer.name])
                self._refuse(offer, f"has the name of {other}; uninstall it or let it take another name")
            else:
                self._offered[offer.name] = offer

    def _load(self, name: object) -> None:
        offer = (self._offered or {}).pop(name, None) if isinstance(name, str) else None
        if offer is None:
            return
        try:
            method = offer.load()
        except Exception as error:  # another package's code may fail in any way
            self._refuse(offer, f"cannot be loaded ({type(error).__name__}: {error}); update or uninstall the package")
            return
        if isinstance(method, Method):
            self._known[offer.name] = method
            self._packages[offer.name] = f"{offer.dist.name} {offer.dist.version}" if offer.dist else offer.value
        else:
            self._refuse(offer, f"is a {type(method).__name__} and no cedkv.methods.Method; update the package")

    def _refuse(self, offer: EntryPoint, why: str) -> None:
        message = " ".join(f"method {offer.name!r} of {_package(offer)} {why}".split())
        self._refused[offer.name] = message
        warnings.warn(message, MethodWarning, stacklevel=2)


def _package(offer: EntryPoint) -> str:
    return f"package {offer.dist.name!r}" if offer.dist else f"{offer.value!r}"
