"""Fast explicit diffusion:  u^{k+1} = u^k + τ_k f(u^k),  τ_k = τ / (2cos²(π(2k+1)/(4n+2))),  k = 0, …, n−1.

The steps of a cycle are not stable one by one, their product is: it factorises the box filter of length 2n+1, so that a
cycle of n steps covers the time τ(n²+n)/3, where n explicit steps cover nτ. In between, what a large step amplifies has
to be damped by small ones, before or after: in ascending order rounding and nonlinearities grow by 10⁸ in a cycle of 20
and by 10¹⁸ in one of 40. The steps come in the order of Leja, which keeps the growth of the order of n (Calvetti,
Reichel, BIT 36 (1996) 240–247, doi:10.1007/BF01731981). FSI and RKL need no such care. (Grewenig, Weickert, Bruhn,
DAGM 2010, doi:10.1007/978-3-642-15986-2_54.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .base import Scheme, scheme


@scheme("fed")
@dataclass(frozen=True)
class FED(Scheme):
    """`cycles` cycles of `length` steps; `tau` is the explicit step they are built on.

    With `freeze="cycle"` norms decrease over a cycle, provably.
    """

    cycles: int
    length: int
    tau: float | str = "auto"
    freeze: str | None = None

    title: ClassVar[str] = "fast explicit diffusion"
    formula: ClassVar[str] = "u^{k+1} = u^k + c_k τ f(u^k), c_k = 1/(2cos²(π(2k+1)/(4n+2)))"
    citation: ClassVar[str] = "Grewenig, Weickert, Bruhn, DAGM 2010"

    @property
    def cycle(self) -> int:
        return self.length

    def schedule(self) -> Mapping[str, Sequence[float]]:
        n = self.length
        return {"c": _ordered([1 / (2 * math.cos(math.pi * (2 * k + 1) / (4 * n + 2)) ** 2) for k in range(n)])}

    def step(self, f: Any, u: Any, tau: Any, *, c: Any) -> Any:
        return u + c * tau * f(u)


def _ordered(steps: list[float]) -> list[float]:
    """The steps in the order of Leja: from the smallest on, next is the one whose root 1/c has the largest product of
    distances from the roots so far."""
    roots = 1 / np.array(steps)
    order, distance = [0], np.zeros(len(steps))
    while len(order) < len(steps):
        with np.errstate(divide="ignore"):
            distance += np.log(np.abs(roots - roots[order[-1]]))
        order.append(int(np.argmax(distance)))
    return [steps[k] for k in order]
