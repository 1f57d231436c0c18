"""Fast semi-iteration:  u^{k+1} = a_k (u^k + τ f(u^k)) + (1 − a_k) u^{k−1},  a_k = (4k+2)/(2k+3),  u^{−1} = u^0.

Explicit steps, extrapolated by a second, longer skip connection; after n layers the cycle starts again. A cycle is
the box filter of length 2n+1 and covers the time τ(n²+n)/3, with bounded states at every layer. (Hafner, Ochs,
Weickert, Reißel, Grewenig, SSVM 2016, doi:10.1007/978-3-319-46630-9_11; Alt et al., JMIV 2023, section 4.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from .base import Scheme, scheme


@scheme("fsi")
@dataclass(frozen=True)
class FSI(Scheme):
    """`cycles` cycles of `length` layers; `tau` is the explicit step they extrapolate.

    With `freeze="cycle"` norms decrease over a cycle, provably.
    """

    cycles: int
    length: int
    tau: float | str = "auto"
    freeze: str | None = None

    title: ClassVar[str] = "fast semi-iteration"
    formula: ClassVar[str] = "u^{k+1} = a_k (u^k + τ f(u^k)) + (1 − a_k) u^{k−1}, a_k = (4k+2)/(2k+3)"
    citation: ClassVar[str] = "Hafner et al., SSVM 2016; Alt et al., JMIV 65 (2023), section 4"

    @property
    def cycle(self) -> int:
        return self.length

    def schedule(self) -> Mapping[str, Sequence[float]]:
        return {"a": [(4 * k + 2) / (2 * k + 3) for k in range(self.length)]}

    def step(self, f: Any, u: Any, tau: Any, old: Any, *, a: Any) -> Any:
        return a * (u + tau * f(u)) + (1 - a) * old
