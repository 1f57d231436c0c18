"""Every way the user can be told no.

    PdeloomError
    ├── DeclarationError        a coordinate, field, parameter or operator that makes no sense
    ├── BoundaryError           a missing, doubled or contradictory boundary condition
    ├── UnsupportedTermError    a term that cannot be discretised as written
    ├── ParseError              text that is not an equation of the grammar
    ├── DiscretisationError     a grid, spacing or accuracy order that cannot serve the problem
    ├── SchemeError             a scheme or keyword that cannot serve the problem
    │   └── UnstableSchemeError     a step over its proved bound, or no bound to choose one from
    ├── UnknownKeywordError     a keyword nobody listens to
    ├── SpecError               a TOML file with a wrong key or value
    ├── DataError               images, arrays or shapes that do not fit
    ├── TrainingError           a run that cannot start, resume or go on
    └── CheckpointError         a saved network that is damaged, stale or foreign

Each message names the culprit, its value, the limit and the cure. A broken invariant of our own is an
`AssertionError`, never one of these.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar


class PdeloomError(Exception):
    """Base of all errors a user of pdeloom can cause."""


class DeclarationError(PdeloomError, ValueError):
    pass


class BoundaryError(PdeloomError, ValueError):
    pass


class UnsupportedTermError(PdeloomError, NotImplementedError):
    pass


class ParseError(PdeloomError, ValueError):
    pass


class DiscretisationError(PdeloomError, ValueError):
    pass


class SchemeError(PdeloomError, ValueError):
    pass


class UnstableSchemeError(SchemeError):
    pass


class UnknownKeywordError(PdeloomError, TypeError):
    pass


class SpecError(PdeloomError, ValueError):
    pass


class DataError(PdeloomError, ValueError):
    pass


class TrainingError(PdeloomError, RuntimeError):
    pass


class CheckpointError(PdeloomError, RuntimeError):
    pass


def suggest(word: str, choices: Iterable[str]) -> str:
    """`did you mean …?` followed by the valid choices.

    >>> suggest("forward-eular", ["forward-euler", "fsi"])
    "did you mean 'forward-euler'? valid: forward-euler, fsi"
    """
    listed = list(choices)
    close = difflib.get_close_matches(word, listed, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(listed) or 'none'}"


F = TypeVar("F", bound=Callable[..., Any])


def strict(call: F) -> F:
    """Turn a call that does not fit the signature into an `UnknownKeywordError` with the valid names."""
    signature = inspect.signature(call)
    names = [name for name, p in signature.parameters.items() if name != "self" and p.kind != p.VAR_KEYWORD]
    label = call.__qualname__.removesuffix(".__init__")

    @functools.wraps(call)
    def checked(*args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            unknown = [key for key in kwargs if key not in names]
            hint = suggest(unknown[0], names) if unknown else f"signature: {label}({', '.join(names)})"
            raise UnknownKeywordError(f"{label}: {error}; {hint}") from None
        return call(*args, **kwargs)

    return checked  # type: ignore[return-value]
