"""sympy expressions as torch code.

Sympy's own torch printer fails on Max, Heaviside and sqrt(2)*x, for torch wants tensors where it gives numbers.
Here numbers are folded into Python floats, and a function of numbers alone is a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import sympy as sp

from .errors import UnsupportedTermError

_FUNCTIONS: Mapping[type, str] = {
    sp.exp: "torch.exp",
    sp.log: "torch.log",
    sp.sin: "torch.sin",
    sp.cos: "torch.cos",
    sp.tan: "torch.tan",
    sp.tanh: "torch.tanh",
    sp.sinh: "torch.sinh",
    sp.cosh: "torch.cosh",
    sp.atan: "torch.atan",
    sp.asin: "torch.asin",
    sp.acos: "torch.acos",
    sp.asinh: "torch.asinh",
    sp.Abs: "torch.abs",
    sp.sign: "torch.sign",
}

_SUM, _PRODUCT, _POWER, _ATOM = range(4)


def torch_code(e: sp.Expr, names: Mapping[sp.Symbol, str] | None = None, tensors: frozenset[str] | None = None) -> str:
    """The torch expression for `e`; `names` say what its symbols are called, `tensors` which are tensors.

    >>> x, lam = sp.symbols("x lam")
    >>> torch_code(x / (1 + x**2 / lam**2))
    'x / (1 + (x / lam) ** 2)'
    >>> torch_code(sp.Max(sp.sqrt(2) * x, 0))
    'torch.clamp(1.4142135623730951 * x, min=0)'
    """
    return Printer(names or {}, tensors).code(e)


def literal(value: float) -> str:
    """A number as Python source: whole numbers short, others to the last digit."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


class Printer:
    """Prints expressions, each part once: later names and tensors have to be those of new symbols."""

    def __init__(self, names: Mapping[sp.Symbol, str], tensors: frozenset[str] | None) -> None:
        self.names, self.tensors = names, tensors
        self.known = dict[sp.Expr, tuple[str, int]]()

    def code(self, e: sp.Expr, least: int = _SUM) -> str:
        if e not in self.known:
            self.known[e] = self._print(e)
        text, level = self.known[e]
        return f"({text})" if level < least else text

    def _is_tensor(self, e: sp.Expr) -> bool:
        if self.tensors is None:
            return bool(e.free_symbols)
        return any(self.names.get(s, s.name) in self.tensors for s in e.free_symbols)

    def _print(self, e: sp.Expr) -> tuple[str, int]:
        if e.is_Symbol:
            return self.names.get(e, e.name), _ATOM
        if e.is_number:
            value = float(e)
            return literal(value), _ATOM if value >= 0 else _SUM
        for kind, rule in _RULES.items():
            if isinstance(e, kind):
                return rule(self, e)
        if isinstance(e, sp.Abs) and not self._is_tensor(e):
            return f"abs({self.code(e.args[0])})", _ATOM
        if e.func in _FUNCTIONS:
            return f"{_FUNCTIONS[e.func]}({self._argument(e.args[0])})", _ATOM
        raise UnsupportedTermError(f"{e.func} in {e} has no torch form; see the list of functions in the docs")

    def _argument(self, e: sp.Expr) -> str:
        """A function argument must be a tensor, also when it is a plain Python number by name; of no dimension, its
        double precision does not widen what it meets."""
        return self.code(e) if self._is_tensor(e) else f"torch.as_tensor({self.code(e)}, dtype=torch.float64)"

    def _add(self, e: sp.Expr) -> tuple[str, int]:
        # constants first: 1 + s² reads better than s² + 1; then positive terms, so that no sum opens with a minus
        terms = sorted(e.as_ordered_terms(), key=lambda t: (t.could_extract_minus_sign(), not t.is_number))
        text = self.code(terms[0], _PRODUCT if not terms[0].could_extract_minus_sign() else _SUM)
        for term in terms[1:]:
            minus = term.could_extract_minus_sign()
            text += f" {'-' if minus else '+'} {self.code(-term if minus else term, _PRODUCT)}"
        return text, _SUM

    def _mul(self, e: sp.Expr) -> tuple[str, int]:
        if e.could_extract_minus_sign():
            # −(a²)·b, which the formatter brackets
            return "-" + re.sub(r"^(\w+ ?\*\* ?(?:\w+|\(-\w+\)))", r"(\1)", self.code(-e, _PRODUCT)), _SUM
        constants = [a for a in e.args if a.is_number]
        number, rest = sp.Mul(*constants), sp.Mul(*(a for a in e.args if not a.is_number))
        above, below = [] if number == 1 else [number], []
        for factor in rest.as_ordered_factors():
            base, exponent = factor.as_base_exp()
            if exponent.is_number and -2 <= exponent < 0 and not isinstance(factor, sp.exp):
                below.append(base**-exponent)
            else:
                above.append(factor)
        if below and number.is_Rational and number.p == 1 and number.q != 1:
            above, below = above[1:], [sp.Integer(number.q), *below]
        # s²/λ² as (s/λ)²: it does not overflow before the ratio does, and its gradients stay finite
        pairs = [(p, q) for p in above for q in below if p.is_Pow and q.is_Pow and p.exp == q.exp == 2]
        if pairs:
            p, q = pairs[0]
            ratio = f"{self.code(p.base, _POWER)} / {self.code(q.base, _ATOM)}"
            above, below = [a for a in above if a != p], [b for b in below if b != q]
            factors = [f"({ratio}) ** 2"]
            if not above and not below:
                return factors[0], _POWER
        else:
            factors = []
        text = " * ".join([*(self.code(f, _POWER) for f in above), *factors]) or "1"
        if below:
            divisor = " * ".join(self.code(f, _POWER) for f in below)
            text += f" / {divisor}" if len(below) == 1 else f" / ({divisor})"
        return text, _PRODUCT

    def _pow(self, e: sp.Expr) -> tuple[str, int]:
        base, exponent = e.base, e.exp
        if exponent == sp.Rational(1, 2):
            return f"torch.sqrt({self._argument(base)})", _ATOM
        if exponent == -sp.Rational(1, 2):
            return f"torch.rsqrt({self._argument(base)})", _ATOM
        if exponent.is_number and -2 <= exponent < 0:
            return f"1 / {self.code(base**-exponent, _POWER)}", _PRODUCT
        left, right = self.code(base, _ATOM), self.code(exponent, _ATOM)
        simple = all(_simple(operand) for operand in (left, right))  # the formatter hugs the ** of simple operands
        return f"{left}**{right}" if simple else f"{left} ** {right}", _POWER

    def _extreme(self, e: sp.Expr) -> tuple[str, int]:
        side, pair = ("min", "torch.maximum") if isinstance(e, sp.Max) else ("max", "torch.minimum")
        tensors = [a for a in e.args if self._is_tensor(a)]
        others = [a for a in e.args if not self._is_tensor(a)]
        if not tensors:
            plain = "max" if isinstance(e, sp.Max) else "min"
            return f"{plain}({', '.join(self.code(o) for o in others)})", _ATOM
        inner = tensors[0]
        if isinstance(e, sp.Max) and isinstance(inner, sp.Min) and len(inner.args) == len(e.args) == 2:
            tensor, high = sorted(inner.args, key=self._is_tensor, reverse=True)
            if others and not self._is_tensor(high):
                return f"torch.clamp({self.code(tensor)}, {self.code(others[0])}, {self.code(high)})", _ATOM
        text = self.code(inner)
        for t in tensors[1:]:
            text = f"{pair}({text}, {self.code(t)})"
        for o in others:
            text = f"torch.clamp({text}, {side}={self.code(o)})"
        return text, _ATOM

    def _heaviside(self, e: sp.Expr) -> tuple[str, int]:
        x = self._argument(e.args[0])
        return f"(torch.sign({x}) + 1) / 2", _PRODUCT


_RULES: Mapping[type, Callable[[Printer, sp.Expr], tuple[str, int]]] = {
    sp.Add: Printer._add,
    sp.Mul: Printer._mul,
    sp.exp: lambda p, e: (f"torch.exp({p._argument(e.args[0])})", _ATOM),
    sp.Pow: Printer._pow,
    sp.Max: Printer._extreme,
    sp.Min: Printer._extreme,
    sp.Heaviside: Printer._heaviside,
}


def _simple(operand: str) -> bool:
    return operand.replace(".", "").replace("_", "").isalnum()
