"""Equations as text, read by a grammar of their own. No text ever reaches eval, exec or sympify.

    equation  :=  sum "=" sum
    sum       :=  product (("+" | "-") product)*
    product   :=  unary (("*" | "/") unary)*
    unary     :=  ("-" | "+") unary | power
    power     :=  atom [("**" | "^") unary]
    atom      :=  number | name | name "(" argument ("," argument)* ")" | "(" sum ")"
    argument  :=  ["order" "="] sum

Names are the declared coordinates, fields, data and parameters, `pi`, the operators dt, d, grad, div, laplacian,
norm2, the functions below, and the diffusivities with their first argument s²: perona_malik(norm2(grad(u)), lam).
`unparse` writes an equation in the same grammar.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sympy as sp
from sympy.printing.str import StrPrinter

from . import fields
from .errors import BoundaryError, DeclarationError, ParseError, PdeloomError, suggest
from .fields import Data, Parameter, Unknown
from .grid import BOUNDARIES, Boundary
from .nonlinearity import DIFFUSIVITIES, diffusivity
from .problem import PDE, called
from .tensors import (
    MU1,
    MU2,
    Smoothed,
    TensorEntry,
    coherence_enhancing,
    edge_enhancing,
    entry,
    smooth,
    structure_tensor,
)
from .tensors import tensor as declared_tensor

MAX_LENGTH = 10_000
MAX_DEPTH = 100
MAX_POWER = 64
MAX_NUMBER = 1e300

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "exp": sp.exp, "log": sp.log, "sqrt": sp.sqrt, "sin": sp.sin, "cos": sp.cos, "tan": sp.tan, "tanh": sp.tanh,
    "sinh": sp.sinh, "cosh": sp.cosh, "atan": sp.atan, "asin": sp.asin, "acos": sp.acos, "asinh": sp.asinh,
    "abs": sp.Abs, "sign": sp.sign, "max": sp.Max, "min": sp.Min, "heaviside": sp.Heaviside,
}  # fmt: skip
_ARITY = {"max": range(2, 9), "min": range(2, 9), "heaviside": range(1, 3)}
OPERATORS: Mapping[str, tuple[range, Callable[..., Any]]] = {
    "dt": (range(1, 3), fields.dt),
    "d": (range(2, 4), fields.d),
    "grad": (range(1, 2), fields.grad),
    "div": (range(1, 2), fields.div),
    "laplacian": (range(1, 2), fields.laplacian),
    "norm2": (range(1, 2), fields.norm2),
    "smooth": (range(2, 3), smooth),
    "structure_tensor": (range(1, 4), structure_tensor),
    "edge_enhancing": (range(2, 3), edge_enhancing),
    "coherence_enhancing": (range(2, 4), coherence_enhancing),
    "tensor_entry": (range(7, 8), entry),
}
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/^(),=]))")


def parse(
    text: str | list[str],
    coordinates: Iterable[str],
    fields: Iterable[str] | Mapping[str, tuple[float, float] | None],
    boundary: Any,
    parameters: Mapping[str, Any] | None = None,
    data: Iterable[str] | Mapping[str, tuple[float, float] | None] = (),
    tensors: Mapping[str, Sequence[float]] | None = None,
    staggered: Mapping[str, str | Sequence[str]] | None = None,
    name: str | None = None,
) -> PDE:
    """Read a PDE from text.

    `parameters` maps names to values or to {"value": …, "positive": true}, `tensors` names to the bounds of their
    eigenvalues (their entries are called T_xx, T_xy, …), `staggered` fields to the coordinates along which they lie on
    the faces; `boundary` is a boundary condition, its text ("no-flux", "periodic", "dirichlet(0)"), a table
    {axis: text or pair}, or a table {field: one of these}.

    >>> pde = parse("dt(u) = laplacian(u)", coordinates=["x", "y"], fields=["u"], boundary="no-flux")
    >>> unparse(pde.equations[0])
    'dt(u) = d(u, x, 2) + d(u, y, 2)'
    """
    listed = _strings(coordinates, "coordinates")
    declared = _coordinates(" ".join(listed))
    axes = list(declared) if len(listed) > 1 else [declared]
    names: dict[str, Any] = {str(x): x for x in axes}

    def declare(key: str, value: Any) -> None:
        if key in names or key in FUNCTIONS or key in OPERATORS or key == "pi":
            raise DeclarationError(f"the name {key!r} is used twice or is a word of the grammar; choose another")
        names[key] = value

    unknowns = fields if isinstance(fields, Mapping) else dict.fromkeys(_strings(fields, "fields"))
    if not isinstance(staggered or {}, Mapping):
        raise DeclarationError(f"staggered={staggered!r}: give a table of fields with coordinates, {{'v': 'x'}}")
    shifted = {key: _strings(given, f"staggered {key!r}") for key, given in (staggered or {}).items()}
    for key in shifted:
        if key not in unknowns:
            raise DeclarationError(f"staggered: {key!r} is no field; {suggest(key, list(unknowns))}")
    for key, bounds in unknowns.items():
        declare(key, _field(key, axes, bounds, shifted.get(key, ())))
    bounded = data if isinstance(data, Mapping) else dict.fromkeys(_strings(data, "data"))
    for key, bounds in bounded.items():
        declare(key, _data(key, axes, bounds))
    for key, limits in (tensors or {}).items():
        matrix = declared_tensor(key, *axes, bounds=_limits(limits))
        declare(key, matrix)
        for f in matrix.atoms(Data):
            declare(str(f.func), f)
    for key, given in (parameters or {}).items():
        declare(key, _parameter(key, given))
    texts = [text] if isinstance(text, str) else list(text)
    equations = [_Parser(one, names).equation() for one in texts]
    return PDE(equations, boundary=parse_boundary(boundary, names), name=name)


def parse_boundary(given: Any, names: Mapping[str, Any]) -> Any:
    """A boundary condition from text, or a table of them, per axis or per field."""
    if isinstance(given, Boundary):
        return given
    if isinstance(given, str):
        word = given.strip().lower().replace(" ", "")
        numbers = {"dirichlet": 1, "neumann": 1, "robin": 3}
        call = re.fullmatch(r"\s*([A-Za-z]+)\s*\((.*)\)\s*", given)
        if call and (name := call[1].lower()) in numbers:
            *first, last = call[2].split(",", numbers[name] - 1)
            try:
                values = [float(v) for v in first]
            except ValueError:
                values = []
            if len(values) == numbers[name] - 1 and last.strip():
                condition: Any = BOUNDARIES[name]
                try:
                    return condition(*values, _Parser(last, dict(names)).value())
                except ParseError as error:
                    raise BoundaryError(f"boundary {given!r}: {error}") from None
        if (name := re.split(r"\W", word)[0]) in numbers:
            example = {"dirichlet": "dirichlet(0.5)", "neumann": "neumann(0.5)", "robin": "robin(1, 2, 0.5)"}[name]
            raise BoundaryError(f"boundary {given!r}: write what it needs, such as {example}")
        valid = [name for name in BOUNDARIES if name not in numbers]
        if word not in valid:
            raise BoundaryError(f"boundary {given!r}: {suggest(given, [*valid, 'dirichlet(0)', 'neumann(0.5)'])}")
        return BOUNDARIES[word]()
    if isinstance(given, Mapping):
        table = {}
        for key, one in given.items():
            pair = isinstance(one, (list, tuple))
            table[names.get(str(key), str(key))] = (
                tuple(parse_boundary(b, names) for b in one) if pair else parse_boundary(one, names)
            )
        return table
    raise BoundaryError(f"boundary {given!r}: give a text such as 'no-flux', or a table per axis")


def _coordinates(names: str) -> Any:
    return fields.coordinates(names)


def _field(name: str, axes: list[sp.Symbol], bounds: Any, staggered: Sequence[str]) -> Any:
    known = {str(x): x for x in axes}
    for x in staggered:
        if x not in known:
            raise DeclarationError(f"staggered {name!r}: {x!r} is no coordinate; {suggest(x, list(known))}")
    return fields.field(name, *axes, bounds=_limits(bounds), staggered=tuple(known[x] for x in staggered))


def _data(name: str, axes: list[sp.Symbol], bounds: Any) -> Any:
    return fields.data(name, *axes, bounds=_limits(bounds))


def _limits(bounds: Any) -> Any:
    """Bounds as they are declared; [] stands for none."""
    return (tuple(bounds) or None) if isinstance(bounds, (tuple, list)) else bounds


def _parameter(name: str, given: Any) -> Parameter:
    if isinstance(given, Parameter):
        return given
    if isinstance(given, Mapping):
        rest = dict(given)
        if "value" not in rest:
            raise DeclarationError(f"parameter {name!r}: no value; write {name} = {{ value = 0.1, positive = true }}")
        return fields.parameter(name, rest.pop("value"), **rest)
    return fields.parameter(name, given)


def _strings(given: Iterable[str], what: str) -> list[str]:
    if not isinstance(given, Iterable):
        raise DeclarationError(f"{what}: {given!r} is no name, and no list of names")
    listed = [given] if isinstance(given, str) else list(given)
    for one in listed:
        if not isinstance(one, str):
            raise DeclarationError(f"{what}: {one!r} is not a name")
    return listed


class _Parser:
    def __init__(self, text: str, names: Mapping[str, Any]) -> None:
        if not isinstance(text, str):
            raise ParseError(f"equation {text!r} is not text")
        if len(text) > MAX_LENGTH:
            raise ParseError(f"the equation has {len(text)} characters; the limit is {MAX_LENGTH}")
        self.text, self.names, self.depth = text, names, 0
        self.tokens = self._tokenise(text)
        self.at = 0

    def _tokenise(self, text: str) -> list[tuple[str, int]]:
        tokens, position = [], 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if not match:
                if not text[position:].strip():
                    break
                here = position + len(text[position:]) - len(text[position:].lstrip())
                raise ParseError(f"{self._near(here)}: the character {text[here]!r} is not part of the grammar")
            tokens.append((match[0].strip(), match.end() - len(match[0].strip())))
            position = match.end()
        return [*tokens, ("", len(text))]

    def _near(self, position: int) -> str:
        start, stop = max(0, position - 20), position + 20
        return f"at column {position + 1}, near {self.text[start:stop].strip()!r}"

    def _fail(self, message: str) -> ParseError:
        return ParseError(f"{self._near(self.tokens[min(self.at, len(self.tokens) - 1)][1])}: {message}")

    @property
    def token(self) -> str:
        return self.tokens[self.at][0]

    def _take(self, expected: str) -> None:
        if self.token != expected:
            raise self._fail(f"expected {expected!r}, found {self.token or 'the end'!r}")
        self.at += 1

    def value(self) -> Any:
        """A number, or an expression."""
        e = self._sum()
        if self.token or isinstance(e, sp.MatrixBase):
            raise self._fail(f"unexpected {self.token!r}" if self.token else "a vector, where a scalar belongs")
        return float(e) if e.is_number else e

    def equation(self) -> sp.Eq:
        left = self._sum()
        self._take("=")
        right = self._sum()
        if self.token:
            raise self._fail(f"unexpected {self.token!r} after the equation")
        for side in (left, right):
            if isinstance(side, sp.MatrixBase):
                raise ParseError(f"{side} is a vector; an equation needs scalars on both sides, such as div(…)")
        result = sp.Eq(left, right, evaluate=False)
        if result.has(sp.zoo, sp.nan, sp.oo, -sp.oo):
            raise ParseError("the equation divides by zero")
        return result

    def _sum(self) -> Any:
        result = self._product()
        while self.token in ("+", "-") and self.token:
            sign = self.token
            self.at += 1
            other = self._product()
            result = self._apply((lambda a, b: a + b) if sign == "+" else (lambda a, b: a - b), result, other)
        return result

    def _product(self) -> Any:
        result = self._unary()
        while self.token in ("*", "/") and self.token:
            sign = self.token
            self.at += 1
            other = self._unary()
            if sign == "/" and other == 0:
                raise self._fail("division by zero")
            result = self._apply((lambda a, b: a * b) if sign == "*" else (lambda a, b: a / b), result, other)
        return result

    def _unary(self) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._fail(f"nested deeper than {MAX_DEPTH} levels")
        try:
            if self.token in ("+", "-") and self.token:
                minus = self.token == "-"
                self.at += 1
                value = self._unary()
                return -value if minus else value
            base = self._atom()
            if self.token in ("**", "^"):
                self.at += 1
                return self._power(base, self._unary())
            return base
        finally:
            self.depth -= 1

    def _power(self, base: Any, exponent: Any) -> Any:
        if isinstance(base, sp.MatrixBase) or isinstance(exponent, sp.MatrixBase):
            raise self._fail("a power of a vector; did you mean norm2(…)?")
        if exponent.is_number and abs(float(exponent)) > MAX_POWER:
            raise self._fail(f"the power {_clip(exponent)} is beyond ±{MAX_POWER}")
        if base.is_number and exponent.is_number:
            size = abs(float(base))
            if size == 0 and float(exponent) < 0:
                raise self._fail("division by zero")
            if size and float(exponent) * math.log(size) > math.log(MAX_NUMBER):
                raise self._fail(f"{_clip(base)}**{_clip(exponent)} is larger than {MAX_NUMBER:g}")
        result = self._apply(lambda a, b: a**b, base, exponent)
        if any(p.exp.is_number and abs(float(p.exp)) > MAX_POWER for p in result.atoms(sp.Pow)):
            raise self._fail(f"nested powers make one beyond ±{MAX_POWER}")
        return result

    def _atom(self) -> Any:
        word = self.token
        if word == "(":
            self.at += 1
            inner = self._sum()
            self._take(")")
            return inner
        if word and (word[0].isdigit() or word[0] == "."):
            self.at += 1
            return self._number(word)
        if word and (word[0].isalpha() or word[0] == "_"):
            self.at += 1
            return self._call(word) if self.token == "(" else self._name(word)
        raise self._fail(f"expected a value, found {word or 'the end'!r}")

    def _number(self, word: str) -> Any:
        value = float(word)
        if value > MAX_NUMBER:
            raise self._fail(f"the number {_clip(word)} is larger than {MAX_NUMBER:g}")
        return sp.Integer(word) if word.isdigit() else sp.Float(value)

    def _name(self, word: str) -> Any:
        if word == "pi":
            return sp.pi
        if word in ("mu1", "mu2"):  # the eigenvalues of a structure tensor, in laws of tensor_entry
            return MU1 if word == "mu1" else MU2
        if word == "t" and word not in self.names:
            return fields.t
        if word not in self.names:
            self.at -= 1
            raise self._fail(f"unknown name {word!r}; {suggest(word, [*self.names, 'pi'])}")
        return self.names[word]

    def _call(self, word: str) -> Any:
        opened = self.at - 1
        self._take("(")
        arguments = [self._argument(word)]
        while self.token == ",":
            self.at += 1
            arguments.append(self._argument(word))
        self._take(")")
        named = {key.replace("-", "_"): key for key in DIFFUSIVITIES}
        if word in OPERATORS:
            counts, call = OPERATORS[word]
        elif word in FUNCTIONS:
            counts, call = _ARITY.get(word, range(1, 2)), self._function(word)
        elif word in named:
            wanted = len(DIFFUSIVITIES[named[word]].parameters)
            counts = range(wanted + 1, wanted + 2)
            call = lambda s2, *ps: diffusivity(named[word], *ps)(s2)  # noqa: E731
        else:
            self.at = opened
            raise self._fail(f"unknown function {word!r}; {suggest(word, [*OPERATORS, *FUNCTIONS, *named])}")
        if len(arguments) not in counts:
            self.at = opened
            raise self._fail(f"{word} takes {' or '.join(map(str, counts))} arguments, got {len(arguments)}")
        return self._apply(call, *arguments)

    def _argument(self, word: str) -> Any:
        """An argument; the order of d and dt may be named."""
        if word in ("d", "dt") and self.token == "order" and self.tokens[self.at + 1][0] == "=":
            self.at += 2
        return self._sum()

    def _function(self, word: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if any(isinstance(a, sp.MatrixBase) for a in arguments):
                raise self._fail(f"{word} of a vector; take a component or norm2(…)")
            grows = word in ("exp", "sinh", "cosh")
            if grows and arguments[0].is_number and abs(float(arguments[0])) > math.log(MAX_NUMBER):
                raise self._fail(f"{word}({_clip(arguments[0])}) is larger than {MAX_NUMBER:g}")
            value = FUNCTIONS[word](*arguments)
            if value.has(sp.I, sp.zoo, sp.nan, sp.oo) and value.is_number:
                raise self._fail(f"{word}({', '.join(map(_clip, arguments))}) is not a real number")
            return value

        return call

    def _apply(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            value = call(*arguments)
        except PdeloomError as error:
            raise error if isinstance(error, ParseError) else self._fail(str(error)) from None
        except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
            raise self._fail(f"scalars and vectors do not mix here ({_clip(error)})") from None
        if (
            isinstance(value, sp.Expr)
            and value.is_number
            and (value.is_finite is not True or value.is_real is False or abs(float(value)) > MAX_NUMBER)
        ):
            raise self._fail(f"a number larger than {MAX_NUMBER:g}, one that is not real, or a division by zero")
        return value


def _clip(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "…"


class _Unparser(StrPrinter):  # type: ignore[misc]  # sympy is untyped
    def _print_Derivative(self, e: sp.Derivative) -> str:
        text = self._print(e.expr)
        for x, n in e.variable_count:
            order = f", {n}" if n != 1 else ""
            text = f"dt({text}{order})" if x == fields.t else f"d({text}, {x}{order})"
        return str(text)

    def _print_Function(self, e: sp.Expr) -> str:
        if isinstance(e, (Unknown, Data)):
            return str(e.func)
        if isinstance(e, Smoothed):
            return f"smooth({self._print(e.args[0])}, {self._print(e.args[1])})"
        if isinstance(e, TensorEntry):
            i, j, first, second, *J = e.args
            return f"tensor_entry({', '.join(self._print(a) for a in (i, j, first.expr, second.expr, *J))})"
        names = [word for word, f in FUNCTIONS.items() if e.func == f]
        if not names:
            raise ParseError(f"{e.func} has no word in the grammar")
        arguments = e.args[:1] if names == ["heaviside"] and e.args[1:] == (sp.Rational(1, 2),) else e.args
        return f"{names[0]}({', '.join(self._print(a) for a in arguments)})"

    _print_Abs = _print_Max = _print_Min = _print_Heaviside = _print_sign = _print_exp = _print_Function

    def _print_Float(self, e: sp.Float) -> str:
        return repr(float(e))

    def _print_Mul(self, e: sp.Mul) -> str:
        """Factor by factor, sums and numbers last: read from the left, nothing is multiplied out."""
        number, rest = e.as_coeff_Mul()
        factors = sorted(sp.Mul.make_args(rest), key=lambda f: (f.is_Add, sp.default_sort_key(f)))
        divided = [f for f in factors if f.is_Pow and f.exp.is_Rational and f.exp.is_negative]
        kept = [f for f in factors if f not in divided]
        text = "*".join(self._factor(f) for f in kept) or "1"
        text += "".join(f"/{self._factor(f.base**-f.exp)}" for f in divided)
        if number == 1:
            return text
        if number == -1 and not (kept and kept[0].is_Add):
            return f"-{text}"
        if number.is_Float:
            return f"{text}*{self._factor(number)}"
        return (
            text
            + (f"*{self._factor(sp.Integer(number.p))}" if number.p != 1 else "")
            + (f"/{number.q}" if number.q != 1 else "")
        )

    def _print_Pow(self, e: sp.Pow, rational: bool = False) -> str:
        if e.exp.is_Rational and e.exp.is_negative:
            return f"1/{self._factor(e.base**-e.exp)}"
        if e.exp == sp.Rational(1, 2):
            return f"sqrt({self._print(e.base)})"
        return f"{self._factor(e.base, power=True)}**{self._factor(e.exp, power=True)}"

    def _factor(self, e: sp.Expr, power: bool = False) -> str:
        bare = (
            e.is_Symbol
            or e.is_Function
            or isinstance(e, sp.Derivative)
            or (e.is_Number and e.is_nonnegative and (e.is_Integer or e.is_Float))
        )
        bare = bare or (e.is_Pow and not power and not e.exp.is_negative)
        return self._print(e) if bare else f"({self._print(e)})"

    def _print_Exp1(self, e: sp.Expr) -> str:
        return "exp(1)"


def unparse(equation: sp.Eq) -> str:
    """The equation in the grammar of `parse`, without loss."""
    printer = _Unparser()
    return f"{printer.doprint(equation.lhs)} = {printer.doprint(equation.rhs)}"


def unparse_boundary(pde: PDE) -> Any:
    """The boundary as the text or table that `parse` reads."""

    def shown(given: Any) -> Any:
        if isinstance(given, Mapping):
            return {called(key): shown(b) for key, b in given.items()}
        if isinstance(given, (tuple, list)):
            return [shown(b) for b in given]
        value = getattr(given, "value", None)
        if isinstance(value, sp.Expr):  # without loss
            return given.text.replace(str(value), _Unparser().doprint(value))
        return given.text

    return shown(pde.boundary)
