"""Implicit schemes, whose solver is the recurrence of an RNN.

    backward Euler      u^{k+1} = u^k + τ f(u^{k+1})
    θ-scheme            u^{k+1} = u^k + τ ((1−θ) f(u^k) + θ f(u^{k+1}))          θ = ½: Crank–Nicolson
    semi-implicit       u^{k+1} = u^k + τ A(u^k) u^{k+1},  A(u) the frozen (lagged) operator

Backward Euler meets one operator, A(u^{k+1}), and the semi-implicit scheme one, A(u^k): their steps are resolvents
and decrease the norm for every τ. Crank–Nicolson meets two. (Weickert, ter Haar Romeny, Viergever, IEEE Trans. Image
Process. 7 (1998) 398–410, doi:10.1109/83.661190; Crank, Nicolson, Proc. Camb. Phil. Soc. 43 (1947) 50–67,
doi:10.1017/S0305004100023197.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import SchemeError
from ..solve import Solver, solve
from .base import Scheme, scheme


@scheme("backward-euler")
@dataclass(frozen=True)
class BackwardEuler(Scheme):
    """`steps` implicit Euler steps of size `tau`, each solved by `solver`."""

    steps: int
    tau: float | str = "auto"
    solver: Solver | str = "auto"

    title: ClassVar[str] = "implicit Euler"
    formula: ClassVar[str] = "u^{k+1} = u^k + τ f(u^{k+1})"
    citation: ClassVar[str] = "Alt et al., JMIV 65 (2023), section 5"

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        return solve(lambda v: v - u - tau * f(v), u, self.solver)


@scheme("theta-scheme")
@dataclass(frozen=True)
class ThetaScheme(Scheme):
    """The θ-scheme, `theta` in (0, 1]: ½ is Crank–Nicolson, 1 implicit Euler."""

    steps: int
    tau: float | str = "auto"
    theta: float = 0.5
    solver: Solver | str = "auto"

    title: ClassVar[str] = "the θ-scheme"
    formula: ClassVar[str] = "u^{k+1} = u^k + τ ((1−θ) f(u^k) + θ f(u^{k+1}))"
    citation: ClassVar[str] = "Crank, Nicolson, Proc. Camb. Phil. Soc. 43 (1947)"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._positive("theta", "a number in (0, 1]")
        if self.theta > 1:
            raise SchemeError(f"{type(self).__name__}(theta={self.theta!r}): theta must be a number in (0, 1]")

    @property
    def accuracy(self) -> int:  # type: ignore[override]
        return 2 if self.theta == 0.5 else 1

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        if self.theta == 1:
            return solve(lambda v: v - u - tau * f(v), u, self.solver)
        known = u + (1 - self.theta) * tau * f(u)
        return solve(lambda v: v - known - self.theta * tau * f(v), u, self.solver)


@scheme("crank-nicolson")
@dataclass(frozen=True)
class CrankNicolson(Scheme):
    """The trapezoidal rule with `steps` steps of size `tau`, each solved by `solver`."""

    steps: int
    tau: float | str = "auto"
    solver: Solver | str = "auto"

    accuracy: ClassVar[int] = 2
    title: ClassVar[str] = "Crank–Nicolson"
    formula: ClassVar[str] = "u^{k+1} = u^k + τ/2 (f(u^k) + f(u^{k+1}))"
    citation: ClassVar[str] = "Crank, Nicolson, Proc. Camb. Phil. Soc. 43 (1947)"
    theta: ClassVar[float] = 0.5

    step = ThetaScheme.step


@scheme("semi-implicit")
@dataclass(frozen=True)
class SemiImplicit(Scheme):
    """Diffusivities from the old state, differences of the new one: a linear system in every step."""

    steps: int
    tau: float | str = "auto"
    solver: Solver | str = "auto"

    title: ClassVar[str] = "the semi-implicit scheme"
    formula: ClassVar[str] = "u^{k+1} = u^k + τ A(u^k) u^{k+1}"
    citation: ClassVar[str] = "Weickert, ter Haar Romeny, Viergever, IEEE TIP 7 (1998)"

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        A = f.frozen(u)
        return solve(lambda v: v - u - tau * A(v), u, self.solver)
