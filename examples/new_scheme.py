"""A scheme, a diffusivity and a boundary condition of one's own, without touching the package.

Run it: `python examples/new_scheme.py`. docs/extend.md explains it line by line.
"""

from dataclasses import dataclass

import torch
from sympy import Eq

import pdeloom as loom


@loom.scheme("ralston")
@dataclass(frozen=True)
class Ralston(loom.Scheme):
    """Ralston's second-order method, the two-stage Runge–Kutta scheme with the smallest error bound."""

    steps: int
    tau: float | str = "auto"

    accuracy = 2
    title = "Ralston's method"
    formula = "u^{k+1} = u^k + τ/4 (k + 3 f(u^k + 2/3 τ k)), k = f(u^k)"
    citation = "Ralston, Math. Comp. 16 (1962)"

    def step(self, f, u, tau):
        k = f(u)
        return u + tau / 4 * (k + 3 * f(u + 2 / 3 * tau * k))


@loom.named_diffusivity("geman-mcclure")
def geman_mcclure(r, lam):
    """g(s²) = 1/(1 + s²/λ²)²: redescending, with r = s²."""
    return 1 / (1 + r / lam**2) ** 2


@loom.boundary("wall")
@dataclass(frozen=True)
class Wall(loom.Boundary):
    """u = 0 on the outermost cell faces, on vertex-centred grids as well: u continues oddly beyond them."""

    def side(self, centering):
        return loom.Side("face", parity=-1)


def main() -> None:
    x, y = loom.coordinates("x y")
    u = loom.field("u", x, y)
    lam = loom.parameter("lam", 0.3, positive=True)
    g = loom.diffusivity("geman-mcclure", lam)
    pde = loom.PDE(Eq(loom.dt(u), loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u))), boundary=Wall())
    net = loom.compile(pde, scheme=Ralston(steps=10), trainable=[lam])

    print(net)
    print(f"real stability interval, derived from the step: {net.scheme.real_interval()}")
    for result in net.stability:
        print(f"{result.notion:<18} {result.status:<8} {result.bound}")
    start = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    new = net.module(dtype=torch.float64)(start).detach().numpy()
    print(f"the module differs from the NumPy reference by {abs(new - net.reference(start.numpy())).max():.1e}")


if __name__ == "__main__":
    main()
