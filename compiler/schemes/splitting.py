"""Splitting along the axes: one-dimensional systems only, which Thomas' algorithm solves in two recurrences.

    AOS    u^{k+1} = 1/d Σ_l (I − dτ A_l(u^k))⁻¹ u^k
    ADI    v_0 = u^k + τ A(u^k)u^k,   (I − τ/2 A_l) v_l = v_{l−1} − τ/2 A_l u^k,   u^{k+1} = v_d

AOS averages resolvents: it keeps maxima and decreases the norm for every τ, and treats the axes alike. Douglas' ADI
has order 2 for linear equations. (Weickert, ter Haar Romeny, Viergever, IEEE Trans. Image Process. 7 (1998) 398–410,
doi:10.1109/83.661190, eq. 13; Douglas, Numer. Math. 4 (1962) 41–63, doi:10.1007/BF01386295.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ..solve import Solver, solve
from .base import Scheme, scheme


@scheme("aos")
@dataclass(frozen=True)
class AOS(Scheme):
    """Additive operator splitting with `steps` steps of size `tau`."""

    steps: int
    tau: float | str = "auto"
    solver: Solver | str = "auto"

    title: ClassVar[str] = "additive operator splitting"
    formula: ClassVar[str] = "u^{k+1} = 1/d Σ_l (I − dτ A_l(u^k))⁻¹ u^k"
    citation: ClassVar[str] = "Weickert, ter Haar Romeny, Viergever, IEEE TIP 7 (1998)"

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        parts = f.split()
        d = len(parts)

        def along(A: Callable[[Any], Any]) -> Any:
            return solve(lambda v: v - u - d * tau * A(v), u, self.solver)

        solutions = [along(part.frozen(u)) for part in parts]
        return sum(solutions[1:], solutions[0]) / d


@scheme("adi")
@dataclass(frozen=True)
class ADI(Scheme):
    """Douglas' alternating direction implicit scheme with `steps` steps of size `tau`."""

    steps: int
    tau: float | str = "auto"
    solver: Solver | str = "auto"

    title: ClassVar[str] = "Douglas' ADI scheme"
    formula: ClassVar[str] = "v_0 = u + τ A u, (I − τ/2 A_l) v_l = v_{l−1} − τ/2 A_l u, u^{k+1} = v_d"
    citation: ClassVar[str] = "Douglas, Numer. Math. 4 (1962)"

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        def along(known: Any, A: Callable[[Any], Any]) -> Any:
            right = known - tau / 2 * A(u)
            return solve(lambda v: v - right - tau / 2 * A(v), known, self.solver)

        v = u + tau * f(u)
        for part in f.split():
            v = along(v, part.frozen(u))
        return v
