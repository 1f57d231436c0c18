"""Du Fort–Frankel:  u^{k+1} = 4τα/(1+2τα) (u^k + f(u^k)/(2α)) + (1−2τα)/(1+2τα) u^{k−1},  u^{−1} = u^0.

An explicit scheme that is power bounded for every τ if α ≥ ρ/4, ρ the spectral bound of −f. The price is consistency:
it solves u_t + ατ² u_tt = f(u), and since α grows like 1/h² it tends to the PDE only for τ/h → 0. (Du Fort, Frankel,
Math. Tables Aids Comput. 7 (1953) 135–152, doi:10.1090/S0025-5718-1953-0059077-7; Alt et al., section 4.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("du-fort-frankel")
@dataclass(frozen=True)
class DuFortFrankel(Scheme):
    """`steps` steps of size `tau`; `alpha="auto"` takes the smallest stable α, ρ/4."""

    steps: int
    tau: float | str = "auto"
    alpha: float | str = "auto"

    title: ClassVar[str] = "the Du Fort–Frankel scheme"
    formula: ClassVar[str] = "u^{k+1} = 4τα/(1+2τα) (u^k + f(u^k)/(2α)) + (1−2τα)/(1+2τα) u^{k−1}"
    citation: ClassVar[str] = "Du Fort, Frankel, MTAC 7 (1953); Alt et al., JMIV 65 (2023), section 4"
    relaxation: ClassVar[str | None] = "alpha"
    stride: ClassVar[float] = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha != "auto":
            self._positive("alpha", "a positive number or 'auto'")

    def step(self, f: Any, u: Any, tau: Any, old: Any, *, alpha: Any) -> Any:
        a = 2 * tau * alpha
        return 2 * a / (1 + a) * (u + f(u) / (2 * alpha)) + (1 - a) / (1 + a) * old
