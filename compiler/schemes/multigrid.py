"""Multigrid for steady problems A(u) = b: the cycle is a U-net.

    u   ← smooth(u, b)                            ν₁ sweeps
    w   = inject(u)                               R̂u; zero for a linear A, where this is the correction scheme
    v   ≈ the solution of A_H(v) = restrict(b − A(u)) + A_H(w), by γ cycles on the level below, from w
    u   ← smooth(u + prolong(v − w), b)           ν₂ sweeps

The full approximation scheme of A. Brandt, Math. Comp. 31 (1977) 333–390, doi:10.1090/S0025-5718-1977-0431719-X;
U. Trottenberg, C. Oosterlee, A. Schüller, Multigrid, Academic Press 2001, sections 2.4 (V, W, F), 2.6 (full
multigrid), 5.3, and 7.8.2 for recombined iterates. Written once: traced it is the emitted U-net, run on matrices the
reference, and run on the 2^d coupled harmonics the local Fourier analysis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import SchemeError
from .base import Scheme, scheme

SMOOTHERS = {
    "red-black": "red–black Gauss–Seidel: the unknowns of one colour at a time",
    "jacobi": "damped Jacobi: an explicit step, scaled by the diagonal",
    "chebyshev": "the Chebyshev polynomial of D⁻¹A on the upper part of its spectrum",
    "fsi": "the fast semi-iterative scheme, scaled by the diagonal",
}
BELOW = {"V": "V", "W": "WW", "F": "FV"}
"""The kinds of the cycles that a cycle runs on the level below, one after the other."""


@scheme("multigrid")
@dataclass(frozen=True)
class Multigrid(Scheme):
    """`cycles` multigrid cycles for a steady problem.

    cycle           "V", "W" or "F"
    pre, post       smoothing sweeps before and after the correction
    smoother        "red-black", "jacobi", "chebyshev" or "fsi"
    damping         ω of "jacobi"; "auto" is the best for the high frequencies
    levels          how many grids; None: until no axis can be halved
    prolongation    "linear", or "constant" on axes of cells
    restriction     "full-weighting", the adjoint of linear interpolation, or "average", the mean of the two cells where
                    cells nest; "auto" takes the mean on axes of cells, where it contracts better
    coarse          "rediscretised": A_H is A with the spacing H; "galerkin": A_H = R A P, for linear A
    recombine       how many earlier iterates every cycle is recombined with, so that the residual is smallest; a few
                    help where some modes are slow, as with coefficients that jump
    first           "guess": the cycles start from u; "full": from the full multigrid start
    tol             stop where ‖b − A(u)‖ ≤ tol·‖b − A(u⁰)‖, and raise an error if `cycles` do not get there
    on_divergence   "error", or "accept"
    gradient        "unrolled" through the cycles, or "implicit": through the equation they solve
    """

    cycles: int
    cycle: str = "V"  # type: ignore[assignment]
    pre: int = 2
    post: int = 2
    smoother: str = "red-black"
    damping: float | str = "auto"
    levels: int | None = None
    prolongation: str = "linear"
    restriction: str = "auto"
    coarse: str = "rediscretised"
    recombine: int = 0
    first: str = "guess"
    tol: float | None = None
    on_divergence: str = "error"
    gradient: str = "unrolled"

    time_orders: ClassVar[tuple[int, ...]] = (0,)
    title: ClassVar[str] = "multigrid"
    formula: ClassVar[str] = "u ← S(u + P A_H⁻¹ R (b − A(u))), S ν sweeps of the smoother"
    citation: ClassVar[str] = "Brandt, Math. Comp. 31 (1977)"
    tau: ClassVar[str] = "auto"  # type: ignore[misc]
    memory: ClassVar[int] = 0
    architecture: ClassVar[str] = "U-net"
    governing: ClassVar[str] = "energy decrease"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, valid in (
            ("cycle", tuple(BELOW)),
            ("smoother", tuple(SMOOTHERS)),
            ("prolongation", ("linear", "constant")),
            ("restriction", ("auto", "full-weighting", "average")),
            ("coarse", ("rediscretised", "galerkin")),
            ("first", ("guess", "full")),
            ("on_divergence", ("error", "accept")),
            ("gradient", ("unrolled", "implicit")),
        ):
            self._choice(name, valid)
        for name in ("pre", "post", "recombine"):
            self._whole(name, 0)
        if self.pre + self.post == 0:
            raise SchemeError("Multigrid(pre=0, post=0): a cycle without smoothing does not converge; raise one")
        if self.levels is not None:
            self._whole("levels", 1)
        if self.damping != "auto":
            self._positive("damping", "a number in (0, 2), or 'auto'")
            if self.smoother != "jacobi" or float(self.damping) >= 2:
                raise SchemeError(
                    f"Multigrid(damping={self.damping!r}, smoother={self.smoother!r}): only 'jacobi' is damped, by a "
                    f"number below 2"
                )
        if self.tol is not None:
            self._positive("tol", "a relative residual in (0, 1), or None")
            if not 1e-15 < self.tol < 1:
                raise SchemeError(f"Multigrid(tol={self.tol!r}): a relative residual between 1e-15 and 1")

    def descend(self, level: Any, u: Any, b: Any, kind: str) -> Any:
        """One cycle for A(u) = b on a level and those below it."""
        u = level.smooth(u, b, self.pre)
        r = b - level.operator(u)
        below, w = level.below, level.inject(u)
        c = below.right_hand_side(level.restrict(r), w)
        v = w
        for inner in BELOW[kind]:
            v = below.cycle(v, c, inner)
        u = level.correct(u, level.prolong(below.difference(v, w)))
        return level.smooth(u, b, self.post)

    @property
    def layers(self) -> int:
        return self.cycles

    @property
    def exact(self) -> bool:
        """Are cycles that do not reach the tolerance an error?"""
        return self.tol is not None and self.on_divergence == "error"

    @property
    def unit(self) -> str:
        return "cycle"

    def explain(self) -> str:
        """Which network the scheme is, and why."""
        return (
            f"A {self.cycle}-cycle is a U-net: its encoder is {self.pre} sweeps of the smoother and the restriction of "
            f"the residual, level by level; its decoder the prolongation of the correction, added to what the skip "
            f"connection carries (u; and b, which the smoother reads again), and {self.post} more sweeps. "
            f"{self.cycles} cycles with the same weights follow one another."
            + f" Long skips recombine each with up to {self.recombine} before it."
            * bool(self.recombine)
        )
