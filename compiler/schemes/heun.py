"""Heun's method:  k = f(u^k),  u^{k+1} = u^k + τ/2 (k + f(u^k + τk)).

The trapezoidal rule with an explicit Euler predictor, of order 2. (Heun, Z. Math. Phys. 45 (1900) 23–38.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("heun")
@dataclass(frozen=True)
class Heun(Scheme):
    """Heun's method with `steps` steps of size `tau`."""

    steps: int
    tau: float | str = "auto"

    accuracy: ClassVar[int] = 2
    title: ClassVar[str] = "Heun's method"
    ssp: ClassVar[int] = 1
    formula: ClassVar[str] = "u^{k+1} = u^k + τ/2 (k + f(u^k + τk)), k = f(u^k)"
    citation: ClassVar[str] = "Heun, Z. Math. Phys. 45 (1900)"

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        k = f(u)
        return u + tau / 2 * (k + f(u + tau * k))
