"""Fast explicit diffusion:  u^{k+1} = u^k + τ_k f(u^k),  τ_k = τ / (2cos²(π(2k+1)/(4n+2))),  k = 0, …, n−1.

The steps of a cycle are not stable one by one, their product is: it factorises the box filter of length 2n+1, so that
a cycle of n steps covers the time τ(n²+n)/3, where n explicit steps cover nτ. Within a cycle rounding errors grow
with the larger steps; FSI and RKL have no such weakness. (Grewenig, Weickert, Bruhn, DAGM 2010,
doi:10.1007/978-3-642-15986-2_54.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("fed")
@dataclass(frozen=True)
class FED(Scheme):
    """`cycles` cycles of `length` steps; `tau` is the explicit step they are built on."""

    cycles: int
    length: int
    tau: float | str = "auto"

    title: ClassVar[str] = "fast explicit diffusion"
    formula: ClassVar[str] = "u^{k+1} = u^k + c_k τ f(u^k), c_k = 1/(2cos²(π(2k+1)/(4n+2)))"
    citation: ClassVar[str] = "Grewenig, Weickert, Bruhn, DAGM 2010"

    @property
    def cycle(self) -> int:
        return self.length

    def schedule(self) -> Mapping[str, Sequence[float]]:
        n = self.length
        return {"c": [1 / (2 * math.cos(math.pi * (2 * k + 1) / (4 * n + 2)) ** 2) for k in range(n)]}

    def step(self, f: Any, u: Any, tau: Any, *, c: Any) -> Any:
        return u + c * tau * f(u)
