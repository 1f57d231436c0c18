"""What users may add by name: schemes, diffusivities, boundary conditions.

A decorator registers; an installed package does so by an entry point of the group `pdeloom.extensions`, which names a
module that holds decorated classes or functions and is imported when a name is asked for that is not known yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from .errors import PdeloomError, strict, suggest

T = TypeVar("T")
GROUP = "pdeloom.extensions"


class Registry(Mapping[str, T], Generic[T]):
    """Things of one kind by name; `error` is raised for a name that is taken or unknown."""

    def __init__(self, kind: str, error: type[PdeloomError]) -> None:
        self.kind, self.error = kind, error
        self._things: dict[str, T] = {}
        self._names: dict[str, str] = {}

    def add(self, name: str, thing: T, definition: Any) -> None:
        """Register; a definition of the same name in the same module may come again, as in a notebook."""
        if not isinstance(name, str) or not name or not all(c.isalnum() or c in "-_" for c in name):
            raise self.error(f"the name of a {self.kind}, {name!r}, must be made of letters, digits, - and _")
        origin = f"{definition.__module__}.{definition.__qualname__}"
        if self._names.get(name, origin) != origin:
            raise self.error(f"the name {name!r} of a {self.kind} is taken by {self._names[name]}; choose another")
        self._things[name], self._names[name] = thing, origin

    def register(self, name: str, cls: Any, base: type) -> None:
        """Register a class that inherits from `base`; unknown keywords become errors."""
        if not (isinstance(cls, type) and issubclass(cls, base)):
            raise self.error(f"{self.kind} {name!r}: {cls!r} must be a class that inherits from loom.{base.__name__}")
        self.add(name, cls, cls)  # type: ignore[arg-type]
        cls.name, cls.__init__ = name, strict(cls.__init__)  # type: ignore[attr-defined, method-assign]

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            load_extensions()
        if name not in self._things:
            raise self.error(f"unknown {self.kind} {name!r}: {suggest(str(name), self._things)}")
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        if name not in self._things:
            load_extensions()
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        load_extensions()
        return iter(sorted(self._things))

    def __len__(self) -> int:
        return sum(1 for _ in self)


@cache
def load_extensions() -> None:
    """Import the modules that installed packages name, once."""
    for point in entry_points(group=GROUP):
        point.load()
