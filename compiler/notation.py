"""Expressions as a mathematician writes them, in plain Unicode text."""

from __future__ import annotations

import re
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from .fields import Data, Unknown
from .grid import Spacing
from .problem import FluxTerm, Operator, Problem, Sides
from .tensors import Smoothed, TensorEntry

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "eps": "ε", "epsilon": "ε", "kappa": "κ", "lam": "λ",
    "lamda": "λ", "mu": "μ", "nu": "ν", "rho": "ρ", "sigma": "σ", "tau": "τ", "theta": "θ", "omega": "ω",
}  # fmt: skip
_SUBSCRIPT = str.maketrans("123", "₁₂₃")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class _Printer(StrPrinter):  # type: ignore[misc]  # sympy is untyped
    def _print_Symbol(self, e: sp.Symbol) -> str:
        return _GREEK.get(str(e.name), str(e.name))

    def _print_Derivative(self, e: sp.Derivative) -> str:
        along = "".join(str(x) * int(n) for x, n in e.variable_count)
        inner = self._print(e.expr)
        return f"∂{along} {inner}" if isinstance(e.expr, (Unknown, Data)) else f"∂{along}[{inner}]"

    def _print_Function(self, e: sp.Expr) -> str:
        if isinstance(e, (Unknown, Data)):
            return str(e.func)
        if isinstance(e, TensorEntry):
            return f"T{e.args[0] + 1}{e.args[1] + 1}".translate(_SUBSCRIPT)
        if isinstance(e, Smoothed):
            inner = str(self._print(e.args[0]))
            return f"smooth({inner}, {float(e.args[1]):g})" if e.args[1] else inner
        name = {"Abs": "abs", "Max": "max", "Min": "min"}.get(e.func.__name__, e.func.__name__)
        return f"{name}({', '.join(self._print(a) for a in e.args)})"

    _print_Max = _print_Min = _print_Abs = _print_Function

    def _print_Pow(self, e: sp.Pow, rational: bool = False) -> str:
        base = self._print(e.base)
        if not (e.base.is_Symbol or isinstance(e.base, (Unknown, Data))):
            base = f"({base})"
        if e.exp == sp.Rational(1, 2):
            return f"√{base}"
        if e.exp == -sp.Rational(1, 2):
            return f"1/√{base}"
        if e.exp == -1:
            return f"1/{base}"
        if e.exp.is_Integer:
            return f"{base}{str(e.exp).translate(_SUPERSCRIPT)}"
        return f"{base}^({self._print(e.exp)})"

    def _print_Mul(self, e: sp.Mul) -> str:
        return str(super()._print_Mul(e)).replace("**", "^").replace("*", "·")

    def _print_Float(self, e: sp.Float) -> str:
        return f"{float(e):.6g}"


_printer = _Printer({"order": "none"})


def show(e: Any) -> str:
    """An expression in Unicode.

    >>> lam, q = sp.symbols("lam q")
    >>> show(1 / (1 + q / lam**2))
    '1/(1 + q/λ²)'
    """
    return str(_printer.doprint(e))


def show_term(e: sp.Expr, term: FluxTerm, problem: Problem) -> str:
    """An expression in the slots of a flux term, with the derivatives they stand for in their place."""
    axes, named = tuple(map(str, problem.coordinates)), {}
    for (s, operator), i in zip(term.slots, term.fields, strict=True):
        named[s] = sp.Symbol(f"({show_operator(operator, axes)} {problem.unknowns[i].func})")
    return show(e.xreplace(named))


def show_operator(operator: Operator, axes: tuple[str, ...]) -> str:
    """D as ∂x, ∂xx + ∂yy, α·∂x + ∂xx, without the spacings its coefficients carry under multigrid."""
    parts = []
    for orders, coefficient in operator:
        along = "".join(a * m for a, m in zip(axes, orders, strict=True))
        coefficient = coefficient.xreplace({h: 1 for h in coefficient.free_symbols if isinstance(h, Spacing)})
        factor = "" if coefficient == 1 else f"{show(coefficient)}·"
        parts.append(f"{factor}∂{along}" if along else show(coefficient))
    return " + ".join(parts)


def show_equations(problem: Problem) -> list[str]:
    """The equations as they were declared."""
    return [f"{show(e.lhs)} = {show(e.rhs)}" for e in problem.pde.equations]


def show_boundary(problem: Problem) -> str:
    """The boundary conditions, axis by axis, of every field where they differ."""
    if not problem.boundaries:
        return _show_sides(problem, problem.boundary)
    fields = zip(problem.unknowns, problem.boundaries, strict=True)
    return ", ".join(f"{u.func} {_show_sides(problem, sides)}" for u, sides in fields)


def _show_sides(problem: Problem, sides: Sides) -> str:
    texts = []
    for x, (low, high) in zip(problem.coordinates, sides, strict=True):
        names = [_boundary_name(b) for b in (low, high)]
        texts.append(f"{x}: {names[0]}" if names[0] == names[1] else f"{x}: {names[0]} / {names[1]}")
    same = {t.split(": ")[1] for t in texts}
    return same.pop() if len(same) == 1 else "; ".join(texts)


def _boundary_name(boundary: Any) -> str:
    text, value = str(boundary.text), getattr(boundary, "value", None)
    if isinstance(value, sp.Expr):
        text = text.replace(str(value), show(value))
    return text[0].upper() + text[1:] if "(" in text else re.sub("(?<=[a-z])-", " ", text)
