"""Symplectic Euler, the fields one after the other:  u_i^{k+1} = u_i^k + τ f_i(u_1^{k+1}, …, u_{i−1}^{k+1}, u_i^k, …).

For two groups of fields that drive each other, u_t = −Bᵀv and v_t = Bu, this is leapfrog with v half a step ahead: the
scheme of Yee for Maxwell's equations and of staggered grids for waves, of order 2 if v is read at the time t + τ/2. One
evaluation of f per step, power bounded for τ‖B‖ < 2. The network is a reversible one, whose blocks take turns at halves
of the channels (Gomez, Ren, Urtasun, Grosse, NeurIPS 2017, arXiv 1707.04585). (Yee, IEEE Trans. Antennas Propag. 14
(1966) 302–307, doi:10.1109/TAP.1966.1138693; Hairer, Lubich, Wanner, Geometric Numerical Integration, 2006, I.1.2.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("symplectic-euler")
@dataclass(frozen=True)
class SymplecticEuler(Scheme):
    """Symplectic Euler with `steps` steps of size `tau`, in the order of the equations."""

    steps: int
    tau: float | str = "auto"

    title: ClassVar[str] = "symplectic Euler"
    formula: ClassVar[str] = "u_i^{k+1} = u_i^k + τ f_i(…, u_{i−1}^{k+1}, u_i^k, …)"
    citation: ClassVar[str] = "Yee, IEEE Trans. Antennas Propag. 14 (1966)"

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        for turn in f.fields():
            u = u + tau * turn(u)
        return u
