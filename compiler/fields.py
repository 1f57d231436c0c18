"""The words a PDE is written in: coordinates, fields, data, parameters and the differential operators.

Every word is an ordinary sympy expression, so all of sympy may be used around them. Derivatives are kept
unevaluated: the flux form `d(g * d(u, x), x)` reaches the discretisation as it was typed.
"""

from __future__ import annotations

import keyword
from typing import Any

import sympy as sp
from sympy.core.function import AppliedUndef, UndefinedFunction

from .errors import DeclarationError, strict

t = sp.Symbol("t", real=True)
"""Time."""

Vector = sp.ImmutableDenseMatrix
"""A vector is a column of scalar expressions, one per coordinate."""


class Unknown(AppliedUndef):  # type: ignore[misc]  # sympy is untyped
    """u(x, …, t): what the equation is solved for."""


class Data(AppliedUndef):  # type: ignore[misc]
    """f(x, …): a field given at run time."""


class Parameter(sp.Symbol):  # type: ignore[misc]
    """A scalar with an initial value; `trainable=[…]` turns it into a weight."""

    __slots__ = ("value",)
    value: float

    def __new__(cls, name: str, value: float, **assumptions: Any) -> Parameter:
        self: Parameter = sp.Symbol.__xnew__(cls, name, **assumptions)
        self.value = value
        return self

    def __getnewargs_ex__(self) -> tuple[tuple[str, float], dict[str, Any]]:
        return (self.name, self.value), self._assumptions_orig

    def _hashable_content(self) -> tuple[Any, ...]:
        return (*super()._hashable_content(), self.value)


class FluxWeight(Parameter):
    """A parameter of a learned flux, name_a1 or name_l1: "flux" in `trainable` means all of them."""

    __slots__ = ()

    @property
    def flux(self) -> str:
        """The name of its flux."""
        return str(self.name).rpartition("_")[0]

    @classmethod
    def declared(cls, name: str, value: float, positive: bool = True) -> FluxWeight:
        return cls(_checked_name(name), value, real=True, **({"positive": True} if positive else {}))


class Reading(Parameter):
    """A positive data field inside a diffusivity, where it is analysed: some number, whatever it is."""

    __slots__ = ("data",)
    data: sp.Expr

    @classmethod
    def of(cls, data: sp.Expr) -> Reading:
        low, high = data.func.bounds
        self = cls(str(data.func), float(low + high) / 2, real=True, positive=True)
        self.data = data
        return self

    def _hashable_content(self) -> tuple[Any, ...]:
        return (*super()._hashable_content(), self.data)


def coordinates(names: str) -> Any:
    """One to three space coordinates: a symbol for one name, a tuple for several.

    >>> coordinates("x y")
    (x, y)
    """
    split = str(names).replace(",", " ").split()
    if not 1 <= len(split) <= 3 or len(set(split)) != len(split):
        raise DeclarationError(f"coordinates({names!r}): give one to three different names, such as 'x y'")
    symbols = tuple(sp.Symbol(_checked_name(name), real=True) for name in split)
    return symbols[0] if len(symbols) == 1 else symbols


@strict
def field(
    name: str,
    *axes: sp.Symbol,
    bounds: tuple[float, float] | None = None,
    staggered: sp.Symbol | tuple[sp.Symbol, ...] = (),
) -> Any:
    """An unknown u(x, …, t) over the given coordinates.

    `bounds = (lowest, highest)` is a promise on what it starts with, which the network checks: the speed of waves in a
    conservation law is bounded there. The values of a field that is `staggered` along x lie on the faces x + h/2, as
    velocities between pressures do (Yee, IEEE Trans. Antennas Propag. 14 (1966) 302–307,
    doi:10.1109/TAP.1966.1138693).
    """
    bounds = _checked_bounds(f"field {name!r}", bounds)
    attributes: dict[str, Any] = {} if bounds is None else {"bounds": bounds}
    coordinates, shifted = _checked_axes(name, axes), staggered if isinstance(staggered, tuple) else (staggered,)
    for x in shifted:
        if x not in coordinates or shifted.count(x) > 1:
            names = ", ".join(map(str, coordinates))
            raise DeclarationError(
                f"field {name!r}: staggered={staggered!r}; give one of the coordinates {names}, or a tuple of several"
            )
    if shifted:
        attributes["staggered"] = tuple(int(x in shifted) for x in coordinates)
    return _function(name, Unknown, **attributes)(*coordinates, t)


def shift_of(u: Any) -> tuple[int, ...]:
    """Per axis by how many half cells the values of a field, or of data, lie above the nodes."""
    found: tuple[int, ...] = getattr(u.func, "staggered", None) or (0,) * len([a for a in u.args if a != t])
    return found


def _checked_bounds(what: str, bounds: Any) -> tuple[float, float] | None:
    if bounds is None:
        return None
    numbers = [b for b in bounds if isinstance(b, (int, float))] if isinstance(bounds, (tuple, list)) else []
    if len(numbers) != 2 or len(bounds) != 2 or not -float("inf") < numbers[0] <= numbers[1] < float("inf"):
        raise DeclarationError(f"{what}: bounds = {bounds!r} must be (lowest, highest), two finite numbers")
    return float(bounds[0]), float(bounds[1])


@strict
def data(name: str, *axes: sp.Symbol, bounds: tuple[float, float] | None = None) -> Any:
    """A field known at run time, passed to the network by keyword with shape (B or 1, 1, *grid).

    `bounds = (lowest, highest)` is a promise the stability proof may use; the network checks it.
    """
    return _function(name, Data, bounds=_checked_bounds(f"data {name!r}", bounds))(*_checked_axes(name, axes))


@strict
def parameter(name: str, value: float, **assumptions: Any) -> Parameter:
    """A scalar with an initial value. `positive=True` keeps it positive under training.

    >>> lam = parameter("lam", 0.05, positive=True)
    >>> lam, lam.value
    (lam, 0.05)
    """
    _checked_name(name)
    if isinstance(value, (bool, str)):
        raise DeclarationError(f"parameter {name!r}: value {value!r} is not a number")
    unknown = set(assumptions) - {"positive", "real"}
    if assumptions.get("real") is False:
        raise DeclarationError(f"parameter {name!r}: parameters are real")
    if unknown:
        raise DeclarationError(f"parameter {name!r}: unknown assumption {sorted(unknown)[0]!r}; valid: positive, real")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DeclarationError(f"parameter {name!r}: value {value!r} is not a number") from None
    if not sp.Float(number).is_finite:
        raise DeclarationError(f"parameter {name!r}: value {value!r} is not finite")
    if assumptions.get("positive") and number <= 0:
        raise DeclarationError(f"parameter {name!r}: value {value!r} is not positive, but positive=True was declared")
    positive = {"positive": True} if assumptions.get("positive") else {}  # sympy reads positive=False as "not positive"
    return Parameter(name, number, real=True, **positive)


def dt(u: Any, order: int = 1) -> Any:
    """The time derivative ∂ₜu, or ∂ₜₜu with order=2."""
    if not isinstance(u, Unknown):
        raise DeclarationError(f"dt({u}): only a field has a time derivative here; write dt(u)")
    if order not in (1, 2):
        raise DeclarationError(f"dt({u}, order={order}): the order in time is 1 or 2")
    return sp.Derivative(u, (t, order), evaluate=False)


def d(e: Any, x: sp.Symbol, order: int = 1) -> Any:
    """The space derivative of `e`, kept unevaluated (flux form)."""
    if not isinstance(x, sp.Symbol) or x == t or isinstance(x, Parameter):
        raise DeclarationError(f"d(…, {x}): the second argument must be a space coordinate; use dt for time")
    if isinstance(order, bool) or not isinstance(order, (int, sp.Integer)) or order < 1:
        raise DeclarationError(f"d(…, {x}, order={order}): the order must be a whole number from 1 on")
    if isinstance(e, sp.MatrixBase):
        return e.applyfunc(lambda entry: d(entry, x, order))
    e = expression(e)
    if x not in e.free_symbols:
        if e.atoms(Unknown, Data):
            raise DeclarationError(f"d({e}, {x}): {x} is not a coordinate of its fields; did you mean {space_of(e)}?")
        return sp.S.Zero
    return sp.Derivative(e, (x, int(order)), evaluate=False)


def grad(e: Any) -> Any:
    """The gradient, a vector with one entry per coordinate."""
    axes = space_of(e)
    if isinstance(e, sp.MatrixBase):
        raise DeclarationError(f"grad({e}): the gradient of a vector is not supported; take it entry by entry")
    return Vector([d(e, x) for x in axes])


def div(v: Any) -> Any:
    """The divergence of a vector (in 1-D also of a scalar flux)."""
    axes = space_of(v)
    entries = list(v) if isinstance(v, sp.MatrixBase) else [v]
    if len(entries) != len(axes):
        raise DeclarationError(
            f"div({v}): {len(entries)} entries for {len(axes)} coordinates {axes}; a flux needs one per coordinate"
        )
    return sp.Add(*(d(entry, x) for entry, x in zip(entries, axes, strict=True)))


def laplacian(e: Any) -> Any:
    """Δe = Σ ∂ₓₓe."""
    return sp.Add(*(d(e, x, 2) for x in space_of(e)))


def norm2(v: Any) -> Any:
    """The squared Euclidean norm: |v|², of a scalar its square."""
    entries = list(v) if isinstance(v, sp.MatrixBase) else [expression(v)]
    return sp.Add(*(entry**2 for entry in entries))


def expression(e: Any) -> Any:
    """A sympy expression, or a number made one. Text is never evaluated."""
    try:
        return sp.sympify(e, strict=True)
    except sp.SympifyError:
        raise DeclarationError(f"{e!r} is not a sympy expression; text is read by loom.parse") from None


def space_of(e: Any) -> tuple[sp.Symbol, ...]:
    """The coordinates of the fields in `e`, in the order they were declared in."""
    found = {tuple(a for a in f.args if a != t) for f in expression(e).atoms(Unknown, Data)}
    if not found:
        raise DeclarationError(f"{e} contains no field, so its coordinates are unknown; declare one with loom.field")
    if len(found) > 1:
        raise DeclarationError(f"the fields in {e} live on different coordinates: {sorted(map(str, found))}")
    return found.pop()


WORDS = frozenset(
    "t pi exp log sqrt sin cos tan tanh sinh cosh atan asin acos asinh abs sign max min heaviside dt d grad div "
    "laplacian norm2 order tau stencil self torch nn mu1 mu2 smooth structure_tensor edge_enhancing "
    "coherence_enhancing tensor_entry".split()
)
"""Names that mean something in the grammar, in `trainable` or in the emitted code."""


def _checked_name(name: str) -> str:
    good = isinstance(name, str) and name.isascii() and name.isidentifier()
    if not good or keyword.iskeyword(name) or name[0] == "_":
        raise DeclarationError(f"{name!r} is not a usable name: an ASCII identifier that is no Python keyword is")
    if name in WORDS:
        raise DeclarationError(f"the name {name!r} has a meaning of its own already; choose another")
    return name


def _checked_axes(name: str, axes: tuple[Any, ...]) -> tuple[sp.Symbol, ...]:
    good = all(isinstance(x, sp.Symbol) and not isinstance(x, Parameter) and x != t for x in axes)
    if not 1 <= len(axes) <= 3 or len(set(axes)) != len(axes) or not good:
        raise DeclarationError(f"field {name!r}: give one to three different coordinates, not {axes!r}")
    return axes


def _function(name: str, base: type, **attributes: Any) -> Any:
    function = UndefinedFunction(_checked_name(name), bases=(base,), real=True, role=base.__name__, **attributes)
    for key, value in attributes.items():
        setattr(function, key, value)
    return function
