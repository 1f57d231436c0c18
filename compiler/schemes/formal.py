"""A step run on formal values: where does it evaluate f?

With f(w) = −A(w)w, a step that meets a single operator A(w), at whatever state w, old or new, is a rational function
R(−τA(w)) of one symmetric matrix, and inherits |R| ≤ 1 on its spectrum even where f is nonlinear:

    explicit Euler      A(u)            backward Euler     A(u⁺)
    semi-implicit       A(u), frozen    implicit midpoint  A((u + u⁺)/2)

A step that meets two (Heun, Crank–Nicolson) has no such proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from ..errors import SchemeError


@dataclass
class Structure:
    """What was seen while the step ran."""

    operators: set[tuple[int, sp.Expr]] = field(default_factory=set)
    """(part, state): A_part(state)."""
    evaluations: int = 0
    solves: int = 0
    implicit: list[sp.Expr] = field(default_factory=list)
    """For every solve the factor c, a multiple of τ, of its residual v − … − c f(v)."""
    arguments: dict[sp.Expr, sp.Expr] = field(default_factory=dict)
    """What f was applied to, by the symbol it gave."""
    exact: bool = True
    """Is a solve that does not converge an error?"""
    frozen: bool = False
    parts: bool = False
    """Was f split along the axes?"""
    turns: bool = False
    """Was it split into the fields?"""
    memory: int = 0
    cyclic: bool = False
    dimension: int = 2

    @property
    def one_operator(self) -> bool:
        """Is a step R(−τA(w)) for one state w (per part)?"""
        states = {state for _, state in self.operators}
        return len(states) == 1 and not self.memory and not self.cyclic

    @property
    def plain(self) -> bool:
        """Is that state the old or the new one itself, and no combination of states?"""
        return self.one_operator and all(state.is_Symbol for _, state in self.operators)

    @property
    def one_evaluation(self) -> bool:
        """Is a step linear in u and f(w) for one w? Then distances obey the mean-value operator."""
        return self.one_operator and not self.frozen and not self.parts


class Formal:
    """A linear combination of symbols; f gives a new symbol, and so does a solve."""

    def __init__(self, expr: sp.Expr, seen: Structure) -> None:
        self.expr, self.seen = sp.expand(expr), seen

    def __add__(self, other: Any) -> Formal:
        return Formal(self.expr + (other.expr if isinstance(other, Formal) else other), self.seen)

    __radd__ = __add__

    def __pos__(self) -> Formal:
        return self

    def __neg__(self) -> Formal:
        return self.__mul__(-1)

    def __sub__(self, other: Any) -> Formal:
        return self.__add__(-other)

    def __rsub__(self, other: Any) -> Formal:
        return self.__neg__().__add__(other)

    def __mul__(self, scalar: Any) -> Formal:
        return Formal(sp.sympify(scalar) * self.expr, self.seen)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Formal:
        return self.__mul__(1 / sp.sympify(scalar))

    def solve_for(self, residual: Callable[[Formal], Formal], solver: Any) -> Formal:
        self.seen.solves += 1
        self.seen.exact = self.seen.exact and solver.exact
        v = Formal(sp.Dummy("v"), self.seen)
        R = residual(v).expr
        values = [k for k, argument in self.seen.arguments.items() if v.expr in argument.free_symbols]
        self.seen.implicit.append(sp.Add(*(-R.coeff(k) / R.coeff(v.expr) for k in values)))
        return v


class _F:
    def __init__(self, seen: Structure, part: int = 0) -> None:
        self.seen, self.part = seen, part

    def _at(self, w: Formal, v: Formal) -> Formal:
        self.seen.operators.add((self.part, w.expr))
        self.seen.evaluations += 1
        k = sp.Dummy("k")
        self.seen.arguments[k] = v.expr
        return Formal(k, self.seen)

    def __call__(self, w: Formal) -> Formal:
        return self._at(w, w)

    def frozen(self, w: Formal) -> Callable[[Formal], Formal]:
        self.seen.frozen = True
        return lambda v: self._at(w, v)

    def split(self) -> list[_F]:
        self.seen.parts = True
        return [_F(self.seen, axis + 1) for axis in range(self.seen.dimension)]

    def fields(self) -> list[_F]:
        self.seen.turns = True
        return [self]


def structure(scheme: Any, dimension: int) -> Structure:
    """Run one step of the scheme on formal values, in `dimension` axes."""
    seen = Structure(
        memory=0 if scheme.anchored else scheme.memory,
        cyclic=scheme.cyclic and not scheme.anchored,
        dimension=dimension,
    )
    states = [Formal(sp.Symbol(f"u{i}"), seen) for i in range(scheme.memory + 1)]
    given = {name: sp.Symbol(name) for name in scheme.own}
    try:
        if scheme.anchored:  # a cycle is a step
            (new, *_) = scheme.march(_F(seen), states[0], sp.Symbol("tau"), scheme.cycle)
            seen.evaluations //= scheme.cycle
        else:
            new = scheme.step(_F(seen), states[0], sp.Symbol("tau"), *states[1:], **given)
        if not isinstance(new, Formal):
            raise TypeError(f"it returns {new!r}")
    except (TypeError, AttributeError, ValueError, sp.SympifyError) as error:
        raise SchemeError(
            f"{type(scheme).__name__}.step is not made of f(u), +, -, scalar * u and loom.solve alone: {error}"
        ) from error
    return seen
