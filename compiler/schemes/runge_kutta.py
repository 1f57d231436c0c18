"""Runge–Kutta methods: the strong-stability preserving ones of order 2 and 3 in Shu–Osher form, and the classical one.

    order 2    v = u + τf(u);   u⁺ = ½u + ½(v + τf(v))
    order 3    v = u + τf(u);   w = ¾u + ¼(v + τf(v));   u⁺ = ⅓u + ⅔(w + τf(w))
    order 4    k₁ = f(u), k₂ = f(u + τk₁/2), k₃ = f(u + τk₂/2), k₄ = f(u + τk₃);   u⁺ = u + τ(k₁ + 2k₂ + 2k₃ + k₄)/6

(Shu, Osher, J. Comput. Phys. 77 (1988) 439–471, doi:10.1016/0021-9991(88)90177-5; Kutta, Z. Math. Phys. 46 (1901).)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("runge-kutta")
@dataclass(frozen=True)
class RungeKutta(Scheme):
    """`steps` steps of the Runge–Kutta method of `order` 2, 3 (both SSP) or 4 (classical)."""

    order: int
    steps: int
    tau: float | str = "auto"

    formula: ClassVar[str] = "u^{k+1} = u^k + τ Σ b_i f(Y_i)"
    citation: ClassVar[str] = "Shu, Osher, JCP 77 (1988); Kutta (1901)"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("order", (2, 3, 4))

    @property
    def title(self) -> str:  # type: ignore[override]
        return {2: "SSP Runge–Kutta of order 2", 3: "SSP Runge–Kutta of order 3", 4: "classical Runge–Kutta"}[
            self.order
        ]

    @property
    def ssp(self) -> int:  # type: ignore[override]
        return int(self.order < 4)

    @property
    def accuracy(self) -> int:  # type: ignore[override]
        return self.order

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        return {2: self._second, 3: self._third, 4: self._classical}[self.order](f, u, tau)

    def _second(self, f: Any, u: Any, tau: Any) -> Any:
        v = u + tau * f(u)
        return (u + v + tau * f(v)) / 2

    def _third(self, f: Any, u: Any, tau: Any) -> Any:
        v = u + tau * f(u)
        w = (3 * u + v + tau * f(v)) / 4
        return (u + 2 * (w + tau * f(w))) / 3

    def _classical(self, f: Any, u: Any, tau: Any) -> Any:
        k1 = f(u)
        k2 = f(u + tau / 2 * k1)
        k3 = f(u + tau / 2 * k2)
        k4 = f(u + tau * k3)
        return u + tau / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
