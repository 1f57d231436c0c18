"""Leapfrog for u_tt = f(u):  u^{k+1} = 2u^k − u^{k−1} + τ² f(u^k),  u^{−1} = u^0 − τv^0 + ½τ² f(u^0).

The start makes u^1 = u^0 + τv^0 + ½τ²f(u^0), of order 2. Time-reversible: a hyperbolic network with two skips.
Power bounded for τ²ρ < 4 off the constants, whose mean grows linearly in time as that of the PDE does.
(Courant, Friedrichs, Lewy, Math. Ann. 100 (1928) 32–74, doi:10.1007/BF01448839.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("leapfrog")
@dataclass(frozen=True)
class Leapfrog(Scheme):
    """`steps` steps of size `tau` for an equation of second order in time."""

    steps: int
    tau: float | str = "auto"

    time_orders: ClassVar[tuple[int, ...]] = (2,)
    accuracy: ClassVar[int] = 2
    title: ClassVar[str] = "leapfrog"
    formula: ClassVar[str] = "u^{k+1} = 2u^k − u^{k−1} + τ² f(u^k)"
    citation: ClassVar[str] = "Courant, Friedrichs, Lewy, Math. Ann. 100 (1928)"

    def start(self, f: Any, u: Any, tau: Any, velocity: Any) -> tuple[Any, ...]:  # type: ignore[override]
        return u, u - tau * velocity + tau**2 / 2 * f(u)

    def step(self, f: Any, u: Any, tau: Any, old: Any) -> Any:
        return 2 * u - old + tau**2 * f(u)
