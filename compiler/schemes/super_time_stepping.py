"""Super time stepping: s stages whose stability interval grows with s², as a recurrence of Chebyshev or Legendre
polynomials.

    Y₀ = u,  Y₁ = u + μ̃₁τf(u),
    Y_j = μ_j Y_{j−1} + ν_j Y_{j−2} + (1 − μ_j − ν_j)u + μ̃_j τf(Y_{j−1}) + γ̃_j τf(u),        u⁺ = Y_s

RKL1 and RKL2 (Legendre) damp every mode inside their interval; RKC (Chebyshev) reaches further and needs a little
damping. (Meyer, Balsara, Aslam, J. Comput. Phys. 257 (2014) 594–626, doi:10.1016/j.jcp.2013.08.021, eqs. 8, 12–17;
Sommeijer, Shampine, Verwer, J. Comput. Appl. Math. 88 (1998) 315–326, doi:10.1016/S0377-0427(97)00219-7, eqs.
2.1–2.6.)
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

from ..errors import SchemeError
from .base import Scheme, scheme

Row = tuple[float, float, float, float, float]
"""μ_j, ν_j, 1 − μ_j − ν_j, μ̃_j, γ̃_j."""


def _recurrence(rows: list[Row], f: Any, u: Any, tau: Any) -> Any:
    k = f(u)
    older, Y = u, u + rows[0][3] * tau * k
    for mu, nu, rest, mu_f, gamma in rows[1:]:
        new = mu * Y + nu * older + mu_f * tau * f(Y)
        if gamma:
            new = new + rest * u + gamma * tau * k
        older, Y = Y, new
    return Y


@scheme("rkl")
@dataclass(frozen=True)
class RKL(Scheme):
    """Runge–Kutta–Legendre of `order` 1 or 2 with `stages` stages; `tau` is the whole super-step.

    With `freeze="cycle"` norms decrease over a super-step, provably, and the order is 1.
    """

    order: int
    stages: int
    steps: int
    tau: float | str = "auto"
    freeze: str | None = None

    formula: ClassVar[str] = "Y_j = μ_j Y_{j−1} + ν_j Y_{j−2} + … + μ̃_j τ f(Y_{j−1}), u^{k+1} = Y_s"
    citation: ClassVar[str] = "Meyer, Balsara, Aslam, JCP 257 (2014)"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("order", (1, 2))
        if self.order == 2 and self.stages < 2:
            raise SchemeError(f"RKL(order=2, stages={self.stages!r}): order 2 needs 2 stages or more")

    @property
    def title(self) -> str:  # type: ignore[override]
        return f"Runge–Kutta–Legendre of order {self.order} with {self.stages} stages"

    @property
    def accuracy(self) -> int:  # type: ignore[override]
        return 1 if self.freeze else self.order

    def rows(self) -> list[Row]:
        s = self.stages
        if self.order == 1:
            b, w = [Fraction(1)] * (s + 1), Fraction(2, s**2 + s)
        else:
            b = [Fraction(1, 3)] * 2 + [Fraction(j**2 + j - 2, 2 * j * (j + 1)) for j in range(2, s + 1)]
            w = Fraction(4, s**2 + s - 2)
        found: list[Row] = [(0.0, 0.0, 1.0, float(b[1] * w), 0.0)]
        for j in range(2, s + 1):
            mu, nu = (2 * j - 1) * b[j] / (j * b[j - 1]), (1 - j) * b[j] / (j * b[j - 2])
            found.append((float(mu), float(nu), float(1 - mu - nu), float(mu * w), float(-(1 - b[j - 1]) * mu * w)))
        return found

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        return _recurrence(self.rows(), f.frozen(u) if self.freeze else f, u, tau)


@scheme("rkc")
@dataclass(frozen=True)
class RKC(Scheme):
    """Runge–Kutta–Chebyshev of order 2 with `stages` stages, damped by 2/13; `tau` is the whole super-step.

    With `freeze="cycle"` norms decrease over a super-step, provably, and the order is 1.
    """

    stages: int
    steps: int
    tau: float | str = "auto"
    freeze: str | None = None

    title: ClassVar[str] = "Runge–Kutta–Chebyshev"
    formula: ClassVar[str] = "Y_j = μ_j Y_{j−1} + ν_j Y_{j−2} + … + μ̃_j τ f(Y_{j−1}), u^{k+1} = Y_s"
    citation: ClassVar[str] = "Sommeijer, Shampine, Verwer, JCAM 88 (1998)"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("stages", 2)

    @property
    def accuracy(self) -> int:  # type: ignore[override]
        return 1 if self.freeze else 2

    def rows(self) -> list[Row]:
        s = self.stages
        w0 = 1 + 2 / 13 / s**2
        T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
        for j in range(2, s + 1):
            T.append(2 * w0 * T[j - 1] - T[j - 2])
            dT.append(2 * T[j - 1] + 2 * w0 * dT[j - 1] - dT[j - 2])
            ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[j - 1] - ddT[j - 2])
        w1 = dT[s] / ddT[s]
        b = [ddT[max(j, 2)] / dT[max(j, 2)] ** 2 for j in range(s + 1)]
        found: list[Row] = [(0.0, 0.0, 1.0, b[1] * w1, 0.0)]
        for j in range(2, s + 1):
            mu, nu, mu_f = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], 2 * b[j] * w1 / b[j - 1]
            found.append((mu, nu, 1 - mu - nu, mu_f, -(1 - b[j - 1] * T[j - 1]) * mu_f))
        return found

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        return _recurrence(self.rows(), f.frozen(u) if self.freeze else f, u, tau)
