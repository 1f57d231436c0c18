"""Every way the user can be told no.

    PdeloomError
    ├── DeclarationError, BoundaryError, UnsupportedTermError, ParseError     the equation
    ├── DiscretisationError                                                   the grid
    ├── SchemeError ── UnstableSchemeError                                    the time scheme
    ├── UnknownKeywordError, SpecError                                        words nobody knows
    └── DataError, ConvergenceError, TrainingError, CheckpointError           the run

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
    """A coordinate, field, parameter or operator that makes no sense."""


class BoundaryError(PdeloomError, ValueError):
    """A missing, doubled or contradictory boundary condition."""


class UnsupportedTermError(PdeloomError, NotImplementedError):
    """A term that cannot be discretised as written."""


class ParseError(PdeloomError, ValueError):
    """Text that is not an equation of the grammar."""


class DiscretisationError(PdeloomError, ValueError):
    """A grid, spacing or accuracy order that cannot serve the problem."""


class SchemeError(PdeloomError, ValueError):
    """A scheme or keyword that cannot serve the problem."""


class UnstableSchemeError(SchemeError):
    """A step over its proved bound, or no bound to choose one from."""


class UnknownKeywordError(PdeloomError, TypeError):
    """A keyword nobody listens to."""


class SpecError(PdeloomError, ValueError):
    """A TOML file with a wrong key or value."""


class DataError(PdeloomError, ValueError):
    """Images, arrays or shapes that do not fit."""


class ConvergenceError(PdeloomError, RuntimeError):
    """A solve that did not converge; `history` holds the relative residuals, one per iteration."""

    def __init__(self, message: str, history: Iterable[float] = ()) -> None:
        super().__init__(message)
        self.history = list(history)


class TrainingError(PdeloomError, RuntimeError):
    """A run that cannot start, resume or go on."""


class CheckpointError(PdeloomError, RuntimeError):
    """A saved network that is damaged, stale or foreign."""


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
