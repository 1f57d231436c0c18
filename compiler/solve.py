"""Implicit steps: `solve(residual, guess)` gives v with residual(v) = 0, whatever v is.

    return solve(lambda v: v - u - tau * f(v), guess=u)          # backward Euler

On graph values it leaves a solve op, whose iteration is the recurrence of an RNN; on arrays it runs Newton–Krylov,
which is the reference; on an element of ℚ(z) it divides, so backward Euler has the amplification 1/(1 − z).

A `Solver` is the contract of the solve op: the method, when it stops, what happens if it does not, and how
gradients pass through it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import scipy.optimize

from .errors import ConvergenceError, SchemeError, strict, suggest

METHODS = {
    "auto": "the safest that fits: Thomas, conjugate gradients, BiCGStab(2) or Newton–Krylov",
    "fixed-point": "v ← v − R(v); a contraction for τ·sup|Φ'|·‖K‖² < 1",
    "damped": "v ← v − ωR(v); a contraction for 0 ≤ Φ' and every τ, if ω is small enough",
    "anderson": "the fixed point, extrapolated from the last `memory` iterates",
    "cg": "conjugate gradients, for a linear symmetric positive definite residual",
    "bicgstab": "BiCGStab(2), for a linear residual, also a skew one (Sleijpen, Fokkema, ETNA 1 (1993) 11–32)",
    "thomas": "Thomas' algorithm, for a linear residual that couples neighbours along one axis",
    "newton-krylov": "Newton's method with a Krylov method inside and backtracking",
    "multigrid": "cycles of a U-net: pass solver=loom.Multigrid(…) itself",
}
GRADIENTS = ("implicit", "unrolled", "checkpoint")
FAILURES = ("error", "warn", "accept")
TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "bfloat16": 1e-2}
"""Default relative residuals by dtype."""


@dataclass(frozen=True)
class Solver:
    """How an implicit step is solved.

    method           one of "auto", "fixed-point", "damped", "anderson", "cg", "bicgstab", "thomas", "newton-krylov"
    tol              relative residual ‖R(v)‖/‖guess‖ at which a sample is done (default by dtype: 1e-10, 1e-5, 1e-2)
    max_iterations   the most iterations before `on_failure` applies
    iterations       a fixed number of iterations instead: the network has fixed length, only divergence is an error
    on_failure       "error" (a `ConvergenceError`), "warn" or "accept"
    gradient         "implicit" (one adjoint solve, memory independent of the iterations), "unrolled" or "checkpoint"
    damping          ω of "damped" and "anderson", in (0, 1]; "auto" takes 2/(2 + τρ)
    memory           the number of iterates "anderson" extrapolates from
    cycles           the `Multigrid` of "multigrid", which has options of its own
    """

    method: str = "auto"
    tol: float | None = None
    max_iterations: int = 500
    iterations: int | None = None
    on_failure: str = "error"
    gradient: str = "implicit"
    damping: float | str = "auto"
    memory: int = 5
    cycles: Any = None

    def __post_init__(self) -> None:
        for name, valid in (("method", METHODS), ("gradient", GRADIENTS), ("on_failure", FAILURES)):
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in valid:
                raise SchemeError(f"Solver({name}={getattr(self, name)!r}): {suggest(str(getattr(self, name)), valid)}")
        if (self.method == "multigrid") != hasattr(self.cycles, "descend"):
            raise SchemeError(
                f"Solver({self.method!r}, cycles={self.cycles!r}): multigrid is asked for by solver=loom.Multigrid(…)"
            )
        for name, least in (("max_iterations", 1), ("iterations", 1), ("memory", 1)):
            value = getattr(self, name)
            if name == "iterations" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SchemeError(f"Solver({name}={value!r}): give a whole number from {least} on")
        least_tol = 4 * float(np.finfo(np.float64).eps)
        if self.tol is not None and (isinstance(self.tol, bool) or not isinstance(self.tol, (int, float))):
            raise SchemeError(f"Solver(tol={self.tol!r}): give a positive number, or None for the default of the dtype")
        if self.tol is not None and not least_tol <= self.tol < 1:
            raise SchemeError(
                f"Solver(tol={self.tol!r}): must lie between {least_tol:.2g}, the precision of float64, and 1"
            )
        good = isinstance(self.damping, (int, float)) and not isinstance(self.damping, bool) and 0 < self.damping <= 1
        if not good and not (isinstance(self.damping, str) and self.damping == "auto"):
            raise SchemeError(f"Solver(damping={self.damping!r}): give a number in (0, 1], or 'auto'")

        ignored = [
            f.name for f in fields(self) if getattr(self, f.name) != f.default and f.name not in ("method", "cycles")
        ]
        if self.method == "multigrid" and ignored:
            raise SchemeError(
                f"Solver('multigrid', {ignored[0]}={getattr(self, ignored[0])!r}): the cycles have options of their "
                "own; give them to Multigrid(…)"
            )
        for name, methods in (("damping", ("damped", "anderson")), ("memory", ("anderson",))):
            if getattr(self, name) != getattr(type(self), name) and self.method not in methods:
                raise SchemeError(
                    f"Solver({self.method!r}, {name}={getattr(self, name)!r}): only {' and '.join(methods)} "
                    f"read {name}; leave it out, or choose one of them"
                )
        for name in ("max_iterations", "on_failure"):
            if self.iterations is not None and getattr(self, name) != getattr(type(self), name):
                raise SchemeError(
                    f"Solver(iterations={self.iterations}, {name}={getattr(self, name)!r}): a fixed number of "
                    f"iterations has no use for {name}; give one of the two"
                )

    @property
    def exact(self) -> bool:
        """Is a solve that does not converge an error?"""
        if self.cycles is not None:
            return bool(self.cycles.exact)
        return self.on_failure == "error" and self.iterations is None

    @classmethod
    def of(cls, given: Any) -> Solver:
        """A solver from itself, from the name of its method, or from a table of keywords."""
        if isinstance(given, cls):
            return given
        if hasattr(given, "descend") and not isinstance(given, type):
            return cls("multigrid", cycles=given)
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, dict) and all(isinstance(key, str) for key in given):
            return cls(**given)
        shown = f"{given.__name__}, a class" if isinstance(given, type) else repr(given)
        raise SchemeError(f"solver={shown}: give a loom.Solver(…), loom.Multigrid(…) or one of {', '.join(METHODS)}")

    def table(self) -> dict[str, Any]:
        """The keywords that differ from the defaults, as they stand in TOML."""
        if self.cycles is not None:
            return {"name": self.cycles.name, **self.cycles.table()}
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return changed or {"method": self.method}


Solver.__init__ = strict(Solver.__init__)  # type: ignore[method-assign]


def solve(residual: Callable[[Any], Any], guess: Any, solver: Solver | str = "auto") -> Any:
    """v with residual(v) = 0; the iteration starts at `guess`, whose norm is what the residual is compared with.

    Raises `SchemeError` where the residual does not depend on v.
    """
    if hasattr(guess, "solve_for"):
        return guess.solve_for(residual, Solver.of(solver))
    if isinstance(guess, np.ndarray):
        return newton_krylov(residual, guess)
    at_zero = residual(guess * 0)
    slope = residual(guess * 0 + 1) - at_zero
    if slope == 0:
        raise SchemeError("solve(residual, guess): the residual does not depend on the unknown v")
    return -at_zero / slope


def newton_krylov(residual: Callable[[np.ndarray], np.ndarray], guess: np.ndarray) -> np.ndarray:
    """SciPy's Newton–Krylov method, to a relative residual of 10⁻¹².

    Raises `ConvergenceError` if it stays above that.
    """
    scale = np.linalg.norm(guess) or np.linalg.norm(residual(guess)) or 1.0
    options = {"method": "gmres", "f_tol": 1e-12 * scale, "tol_norm": np.linalg.norm, "maxiter": 100}
    try:
        v: np.ndarray = scipy.optimize.newton_krylov(residual, guess, **options)
    except (scipy.optimize.NoConvergence, ValueError) as error:
        raise ConvergenceError(
            f"the reference did not solve its implicit step to a relative residual of 1e-12 ({type(error).__name__}); "
            f"lower tau, or take a linearly implicit scheme such as SemiImplicit"
        ) from None
    return v
