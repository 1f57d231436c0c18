"""Explicit Euler:  u^{k+1} = u^k + τ f(u^k).

For f(u) = −KᵀΦ(Ku) a step is a residual block with the two convolutions K and −τKᵀ around the activation Φ:
half the weights of a free block (Alt et al., JMIV 2023, doi:10.1007/s10851-022-01106-x, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("forward-euler")
@dataclass(frozen=True)
class ForwardEuler(Scheme):
    """Explicit Euler with `steps` steps of size `tau`."""

    steps: int
    tau: float | str = "auto"

    title: ClassVar[str] = "explicit Euler"
    formula: ClassVar[str] = "u^{k+1} = u^k + τ f(u^k)"
    citation: ClassVar[str] = "Alt et al., JMIV 65 (2023), section 3"

    def step(self, f: Any, u: Any, tau: Any) -> Any:
        return u + tau * f(u)

    def explain(self) -> str:
        return (
            "Each explicit step u − τ KᵀΦ(K u) is a residual block: the skip connection carries u, the first "
            "convolution is K, the activation is the flux function Φ, the second convolution is −τKᵀ, so the "
            "block has half the weights of a free one."
        )
