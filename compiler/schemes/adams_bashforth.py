"""Adams–Bashforth of order 2:  u^{k+1} = u^k + τ/2 (3f(u^k) − f(u^{k−1})),  after one step of Heun's method.

(Hairer, Nørsett, Wanner, Solving Ordinary Differential Equations I, 2nd ed. 1993, III.1,
doi:10.1007/978-3-540-78862-1.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("adams-bashforth")
@dataclass(frozen=True)
class AdamsBashforth(Scheme):
    """`steps` steps of size `tau` of the two-step Adams–Bashforth method."""

    steps: int
    tau: float | str = "auto"
    order: int = 2

    accuracy: ClassVar[int] = 2
    title: ClassVar[str] = "the two-step Adams–Bashforth method"
    formula: ClassVar[str] = "u^{k+1} = u^k + τ/2 (3f(u^k) − f(u^{k−1}))"
    citation: ClassVar[str] = "Hairer, Nørsett, Wanner I, section III.1"
    starting_steps: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._choice("order", (2,))

    def start(self, f: Any, u: Any, tau: Any) -> tuple[Any, ...]:
        k = f(u)
        return u + tau / 2 * (k + f(u + tau * k)), u

    def step(self, f: Any, u: Any, tau: Any, old: Any) -> Any:
        return u + tau / 2 * (3 * f(u) - f(old))
