"""What a time scheme is.

A scheme is a frozen dataclass with one method, `step`, in the paper's notation: it uses nothing but `f(u)`,
`+`, `-` and `scalar * u`. Called with graph values it builds the network, with NumPy arrays it is the
reference solution, with a symbol it is the amplification polynomial from which its stability interval follows.

    @scheme("heun")
    @dataclass(frozen=True)
    class Heun(Scheme):
        steps: int
        tau: float | str = "auto"

        def step(self, f, u, tau):
            k = f(u)
            return u + tau / 2 * (k + f(u + tau * k))
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, ClassVar, TypeVar

import sympy as sp

from ..errors import SchemeError, strict, suggest


class Scheme:
    """Base of all time schemes: fields `steps` and `tau`, and what every scheme says of itself."""

    name: ClassVar[str]
    time_orders: ClassVar[tuple[int, ...]] = (1,)
    """Which orders in time the scheme can serve."""
    order: ClassVar[int] = 1
    """Order of accuracy."""
    governing: ClassVar[str] = "norm decrease"
    """The notion of stability whose bound chooses τ."""
    architecture: ClassVar[str] = "ResNet"
    title: ClassVar[str]
    """The scheme's name in a sentence."""
    formula: ClassVar[str]
    citation: ClassVar[str] = ""

    steps: int
    tau: Any

    def __post_init__(self) -> None:
        for name in ("steps", "tau"):  # NumPy scalars are as good as Python's
            value = getattr(self, name)
            if hasattr(value, "item") and not getattr(value, "shape", None):
                object.__setattr__(self, name, value.item())
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise SchemeError(f"{type(self).__name__}(steps={self.steps!r}): give a whole number of steps from 1 on")
        if self.tau != "auto":
            good = isinstance(self.tau, (int, float)) and not isinstance(self.tau, bool)
            if not good or not 0 < self.tau < float("inf"):
                raise SchemeError(f"{type(self).__name__}(tau={self.tau!r}): tau must be a positive number or 'auto'")

    def step(self, f: Callable[[Any], Any], u: Any, tau: Any) -> Any:
        """One time step."""
        raise NotImplementedError

    @classmethod
    def explain(cls) -> str:
        """Which network the scheme is, and why."""
        raise NotImplementedError

    def amplification(self, z: sp.Symbol) -> sp.Expr:
        """R(z) for the linear problem f(u) = λu, z = τλ: the step run on a symbol.

        >>> from pdeloom.compiler.schemes.forward_euler import ForwardEuler
        >>> ForwardEuler(steps=1).amplification(sp.Symbol("z"))
        z + 1
        """
        return sp.expand(self.step(lambda u: z * u, sp.S.One, sp.S.One))

    def real_interval(self) -> sp.Expr:
        """The largest x with |R(−y)| ≤ 1 for all 0 ≤ y ≤ x, from the roots of R² = 1.

        >>> from pdeloom.compiler.schemes.forward_euler import ForwardEuler
        >>> ForwardEuler(steps=1).real_interval()
        2
        """
        x = sp.Symbol("x", real=True)
        excess = sp.Poly(sp.expand(self.amplification(-x) ** 2 - 1), x)
        crossings = sorted({r for r in excess.real_roots() if r > 0}, key=float)
        here = sp.S.Zero
        for there in [*crossings, sp.oo]:
            middle = (here + there) / 2 if there != sp.oo else here + 1
            if excess.eval(middle) > 0:
                return here
            here = there
        return sp.oo

    def evaluations(self) -> int | None:
        """How often a step calls f, and None if it does so anywhere but at the current state.

        A step that calls f at u alone is R(−τA(u)) u with one frozen operator, and inherits its norm.
        """
        seen: list[Any] = []
        start = sp.Symbol("u")

        def f(u: Any) -> Any:
            seen.append(u)
            return sp.Symbol("k")

        self.step(f, start, sp.Symbol("tau"))
        return len(seen) if all(u == start for u in seen) else None


SCHEMES: dict[str, type[Scheme]] = {}
S = TypeVar("S", bound=type[Scheme])


def scheme(name: str) -> Callable[[S], S]:
    """Register a scheme under the name that specs use."""

    def register(cls: S) -> S:
        if not issubclass(cls, Scheme):
            raise SchemeError(f"@scheme({name!r}): {cls.__name__} must inherit from loom.Scheme")
        if SCHEMES.get(name, cls).__qualname__ != cls.__qualname__:
            raise SchemeError(f"@scheme({name!r}): the name is taken by {SCHEMES[name].__name__}")
        cls.name = name
        cls.__init__ = strict(cls.__init__)  # type: ignore[method-assign]
        SCHEMES[name] = cls
        return cls

    return register


def find_scheme(name: str) -> type[Scheme]:
    """The scheme registered under a name, entry points of group `pdeloom.schemes` included."""
    if name not in SCHEMES:
        for point in entry_points(group="pdeloom.schemes"):
            if point.name == name:
                point.load()
    if name not in SCHEMES:
        raise SchemeError(f"unknown scheme {name!r}: {suggest(name, SCHEMES)}")
    return SCHEMES[name]
