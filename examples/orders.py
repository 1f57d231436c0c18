"""The order of accuracy of every kind of term beside every boundary condition, measured.

    python examples/orders.py      # two minutes; writes docs/orders.md and examples/results/orders.json

For each equation ∂ₜu = F(u) a smooth u* that satisfies the boundary condition is made, its F(u*) is taken by sympy, and
F(u) − u + (u* − F(u*)) = 0, whose solution is u*, is solved on two grids. The order is log₂ of the quotient of the
errors, in the root mean square. (The truncation error itself is of lower order beside some walls, which the solution
does not feel.) For finite volumes it is that of the mean truncation error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
from sympy import Eq

import pdeloom as loom
from pdeloom.runtime.load import write_atomic

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "examples" / "results" / "orders.json"
x, y = loom.coordinates("x y")
u, w = loom.field("u", x, y), loom.field("w", x)
a, b = loom.data("a", x, y, bounds=(0, 4)), loom.data("a", x, bounds=(0, 4))
LENGTH = (2.0, 3.0)


@dataclass(frozen=True)
class Wall:
    """A boundary condition along x, made for a function X(x) on [0, 2]; the other axis is periodic."""

    X: sp.Expr
    Z: sp.Expr
    made: Callable[[sp.Expr], Any]
    centering: str = "vertex"
    nodes: str = "faces"
    """Do the ends lie on faces, on nodes, or is the axis periodic?"""


k = sp.pi / 2
_odd, _even = sp.sin(2 * k * x) / 4, (1 - sp.cos(2 * k * x)) / 8
_general = sp.exp(x / 3) + sp.sin(x) / 4


def _ends(e: sp.Expr) -> tuple[float, float]:
    return float(e.subs(x, 0)), float(e.subs(x, 2))


def _slopes(X: sp.Expr, scale: float = 1.0) -> tuple[float, float]:
    low, high = _ends(sp.diff(X, x))
    return -low * scale, high * scale


def _robin(X: sp.Expr) -> Any:
    return tuple(loom.Robin(2.0, 0.5, 2 * v + s) for v, s in zip(_ends(X), _slopes(X, 0.5), strict=True))


_cosines, _sines = ((f(k * x) + f(2 * k * x) / 3) / 4 for f in (sp.cos, sp.sin))
WALLS = {
    "periodic": Wall(sp.sin(2 * k * x) / 4 + sp.cos(4 * k * x) / 12, _odd, lambda X: loom.Periodic(), nodes="periodic"),
    "no flux": Wall(_cosines, _even, lambda X: loom.NoFlux()),
    "Dirichlet, nodes": Wall(_sines, _odd, lambda X: loom.Dirichlet(0), nodes="nodes"),
    "Dirichlet, faces": Wall(_sines, _odd, lambda X: loom.Dirichlet(0), "cell"),
    "two values": Wall(1 - x / 4 + _sines, _odd, lambda X: tuple(map(loom.Dirichlet, _ends(X))), nodes="nodes"),
    "Neumann": Wall(_general / 4, (x * (2 - x)) ** 2 / 4, lambda X: tuple(map(loom.Neumann, _slopes(X)))),
    "Robin": Wall(_general / 4, (x * (2 - x)) ** 2 / 4, _robin),
}

_wavy = (sp.sin(2 * x + 1) + sp.exp(x / 3)) / 12
_at_rest = (x * (2 - x)) ** 2 * sp.exp(x / 2) / 24
_between = x * (2 - x) * _wavy
ANY = {
    "periodic": WALLS["periodic"],
    "no flux": Wall(_at_rest, _even, lambda X: loom.NoFlux()),
    "Dirichlet, nodes": Wall(_between, _odd, lambda X: loom.Dirichlet(0), nodes="nodes"),
    "Dirichlet, faces": Wall(_between, _odd, lambda X: loom.Dirichlet(0), "cell"),
    "two values": Wall(_wavy, _odd, lambda X: tuple(map(loom.Dirichlet, _ends(X))), nodes="nodes"),
    "Neumann": Wall(_wavy, (x * (2 - x)) ** 2 / 4, lambda X: tuple(map(loom.Neumann, _slopes(X)))),
    "Robin": Wall(_wavy, (x * (2 - x)) ** 2 / 4, _robin),
}
"""The same conditions with solutions that are neither even nor odd about the walls."""

g = loom.diffusivity("charbonnier", 1)
s = sp.Rational(1, 2)
TERMS: dict[str, sp.Expr] = {
    "∂xx u": loom.laplacian(w),
    "∂x(a ∂x u), a given": loom.d(b * loom.d(w, x), x),
    "∂x((2 + cos πx) ∂x u)": loom.d((2 + sp.cos(sp.pi * x)) * loom.d(w, x), x),
    "∂x(g(|∂x u|²) ∂x u)": loom.d(g(loom.d(w, x) ** 2) * loom.d(w, x), x),
    "∂x((1 + u²) ∂x u)": loom.d((1 + w**2) * loom.d(w, x), x),
    "−∂xxxx u": -loom.laplacian(loom.laplacian(w)) / 8,
    "c ∂x u": loom.d(w, x) / 2 + loom.laplacian(w) / 10,
    "c ∂xxx u": loom.d(w, x, 3) / 20 + loom.laplacian(w) / 10,
    "div(g(|∇u|²) ∇u)": loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u)),
    "div(a ∇u), a given": loom.div(a * loom.grad(u)),
    "div(D ∇u), D constant": loom.div(sp.Matrix([[1, s], [s, 1]]) * loom.grad(u)),
    "Δu + ∂xy u": loom.laplacian(u) + loom.d(loom.d(u, y), x),
    "−ΔΔu": -loom.laplacian(loom.laplacian(u)) / 8,
}
CLOSED = {
    "∂xx u, any solution": ("∂xx u", "mirror"),
    "∂xx u, any solution, one-sided": ("∂xx u", "one-sided"),
    "∂x((2 + cos πx) ∂x u), any solution, one-sided": ("∂x((2 + cos πx) ∂x u)", "one-sided"),
    "∂x(g(|∂x u|²) ∂x u), any solution, one-sided": ("∂x(g(|∂x u|²) ∂x u)", "one-sided"),
    "c ∂x u, any solution, one-sided": ("c ∂x u", "one-sided"),
    "∂x(a ∂x u), a given, any solution, one-sided": ("∂x(a ∂x u), a given", "one-sided"),
    "∂x((1 + u²) ∂x u), any solution, one-sided": ("∂x((1 + u²) ∂x u)", "one-sided"),
    "div(g(|∇u|²) ∇u), any solution, one-sided": ("div(g(|∇u|²) ∇u)", "one-sided"),
    "div(a ∇u), a given, any solution, one-sided": ("div(a ∇u), a given", "one-sided"),
    "div(D ∇u), D constant, any solution, one-sided": ("div(D ∇u), D constant", "one-sided"),
    "Δu + ∂xy u, any solution, one-sided": ("Δu + ∂xy u", "one-sided"),
}
"""Terms between walls about which solutions have no symmetry, by closure."""

VOLUMES = {"upwind": 1, "constant": 1, "minmod": 2, "van-leer": 2, "mc": 2, "weno5": 5}
"""Numerical fluxes for transport and the law u²/2, with the order that is expected of them."""


def manufactured(term: sp.Expr, wall: Wall) -> tuple[sp.Expr, sp.Expr]:
    """u* and a: where there is a second axis, u* = X(x) + Z(x)Y(y), to which Z adds nothing at the ends."""
    X = wall.X
    if not term.has(y):
        return X, 1 + X**2
    Y = sp.sin(2 * sp.pi * y / 3) + sp.cos(4 * sp.pi * y / 3) / 3
    return X + wall.Z * Y, 1 + X**2 + wall.Z * Y / 2


def grid(wall: Wall, sizes: tuple[int, ...]) -> tuple[list[np.ndarray], tuple[float, ...]]:
    """The nodes along every axis, and the spacings."""
    n = sizes[0]
    h = LENGTH[0] / (n + 1 if wall.nodes == "nodes" else n)
    first = h * (np.arange(n) + {"nodes": 1.0, "faces": 0.5, "periodic": 0.0}[wall.nodes])
    others = [L / m * np.arange(m) for m, L in zip(sizes[1:], LENGTH[1:], strict=False)]
    return [first, *others], (h, *(L / m for m, L in zip(sizes[1:], LENGTH[1:], strict=False)))


def posed(
    term: sp.Expr, wall: Wall, space: Any, sizes: tuple[int, ...], means: bool = False
) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray]:
    """The residual F(u) − u + (u* − F(u*)) on a grid, and u*, by values at the nodes or by means over cells."""
    field, axes = (u, (x, y)) if len(sizes) == 2 else (w, (x,))
    exact, given = manufactured(term, wall)
    data = {f: given for f in term.atoms(type(a)) if str(f.func) == "a"}
    truth = term.xreplace({a: given, b: given}).xreplace({field: exact}).doit()
    source = loom.data("source", *axes)
    pde = loom.PDE(
        Eq(loom.dt(field), term - field + source),
        boundary={x: wall.made(wall.X), **dict.fromkeys(axes[1:], loom.Periodic())},
    )
    nodes, spacing = grid(wall, sizes)
    mesh = np.meshgrid(*nodes, indexing="ij")

    points, weights = np.polynomial.legendre.leggauss(6) if means else (np.zeros(1), np.full(1, 2.0))

    def sampled(e: sp.Expr) -> np.ndarray:
        value, (first, *others) = sp.lambdify(axes, e, "numpy"), mesh
        shifted = (value(first + p * spacing[0] / 2, *others) + np.zeros(sizes) for p in points)
        found: np.ndarray = sum(c / 2 * v for c, v in zip(weights, shifted, strict=True))
        return found[None, None]

    net = loom.compile(
        pde, grid=loom.Grid(spacing=spacing, centering=wall.centering), space=space,
        scheme=loom.ForwardEuler(1, tau=1e-9), unstable="allow",
    )  # fmt: skip
    fields = {"source": sampled(exact - truth), **({"a": sampled(given)} if data else {})}

    def residual(v: np.ndarray) -> np.ndarray:
        return net.reference.rate(v, **fields)

    return residual, sampled(exact)


def truncation(term: sp.Expr, wall: Wall, space: Any, sizes: tuple[int, ...]) -> float:
    """The mean residual of the means of u* over cells, which is what finite volumes hold; limiters are of first order
    at extrema, which the mean forgives, and have no Jacobian."""
    residual, exact = posed(term, wall, space, sizes, means=True)
    return float(abs(residual(exact)).mean())


def error(term: sp.Expr, wall: Wall, space: Any, sizes: tuple[int, ...]) -> float:
    """The root mean square error of the solution on one grid."""
    residual, exact = posed(term, wall, space, sizes)
    state, count = exact, int(np.prod(sizes))
    step = 1e-6
    moves = step * np.eye(count).reshape(count, 1, *sizes)
    for _ in range(8):
        J = (residual(state + moves) - residual(state - moves)).reshape(count, count).T / (2 * step)
        change = np.linalg.solve(J, residual(state).ravel()).reshape(state.shape)
        state = state - change
        if abs(change).max() < 1e-12:
            break
    return float(np.sqrt(((state - exact) ** 2).mean()))


def measure(term: sp.Expr, wall: Wall, space: Any, order: int) -> float | None:
    """The order between two grids; None where the compiler refuses the combination."""
    plane = term.has(y)
    volumes = isinstance(space, loom.FiniteVolume)
    coarse = 16 if plane else {6: 32, 8: 24}.get(order, 64 if volumes else 32)
    found = truncation if volumes else error
    try:
        pair = [found(term, wall, space, (n, n + n // 2)[: 1 + plane]) for n in (coarse, 2 * coarse)]
    except loom.PdeloomError:
        return None
    return float(np.log2(pair[0] / pair[1]))


def table() -> dict[str, dict[str, dict[str, float | None]]]:
    """The order by term, order that was asked for, and wall."""
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, term in TERMS.items():
        for order in (2, 4) if term.has(y) else (2, 4, 6, 8):
            space = loom.FiniteDifference(order=order)
            row = {wall: measure(term, WALLS[wall], space, order) for wall in WALLS}
            if any(v is not None for v in row.values()):
                found.setdefault(name, {})[str(order)] = row
    for name, (term, closure) in CLOSED.items():
        for order in (2, 4, 6, 8):
            space = loom.FiniteDifference(order, closure)
            row = {wall: measure(TERMS[term], ANY[wall], space, order) for wall in ANY}
            if any(v is not None for wall, v in row.items() if wall != "periodic"):
                found.setdefault(name, {})[str(order)] = row
    for kind, order in VOLUMES.items():
        for name, term in (("−∂x u", -loom.d(w, x)), ("−∂x(u²/2)", -loom.d(w**2 / 2, x))):
            space = loom.FiniteVolume("upwind") if kind == "upwind" else loom.FiniteVolume("rusanov", kind)
            value = measure(term, WALLS["periodic"], space, order)
            if value is not None:
                found.setdefault(f"{name} by {kind}", {})[str(order)] = {"periodic": value}
    return found


def page(found: dict[str, dict[str, dict[str, float | None]]]) -> str:
    lines = [
        "# Orders of accuracy, measured", "", *(__doc__ or "").split("\n\n")[0].splitlines(), "",
        "Written by `python examples/orders.py`. " + " ".join((__doc__ or "").split("\n\n")[2].split()), "",
        "| term | order asked for | " + " | ".join(WALLS) + " |", "|---|---:|" + "---:|" * len(WALLS),
    ]  # fmt: skip
    for name, rows in found.items():
        for order, row in rows.items():
            cells = ["–" if row.get(wall) is None else f"{row[wall]:.2f}" for wall in WALLS]
            lines.append(f"| {name} | {order} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", NOTES.strip(), ""])


LIMITS = {
    ("∂x(a ∂x u), a given", "2"): {"Neumann": 1, "Robin": 1},
    ("∂x((1 + u²) ∂x u)", "2"): {"Neumann": 1, "Robin": 1},
    ("∂x(a ∂x u), a given", "4"): {"Dirichlet, nodes": 3, "two values": 2},
    ("∂x((1 + u²) ∂x u)", "4"): {"two values": 2},
    ("div(a ∇u), a given", "2"): {"Neumann": 1, "Robin": 1},
    ("div(a ∇u), a given", "4"): {"Dirichlet, nodes": 2, "Dirichlet, faces": 2, "two values": 2},
    **{("∂xx u, any solution", o): dict.fromkeys(list(WALLS)[1:5], 2) for o in ("4", "6", "8")},
    ("∂xx u, any solution, one-sided", "6"): {"Dirichlet, faces": 5, "Robin": 5},
    ("c ∂x u, any solution, one-sided", "8"): {"Dirichlet, nodes": 6},
    ("∂x((2 + cos πx) ∂x u), any solution, one-sided", "4"): {"Robin": 3},
    ("∂x((2 + cos πx) ∂x u), any solution, one-sided", "6"): {"no flux": 5},
    ("∂x(g(|∂x u|²) ∂x u), any solution, one-sided", "4"): {"no flux": 2},
    ("∂x(g(|∂x u|²) ∂x u), any solution, one-sided", "6"): {"no flux": 5},
    ("∂x(g(|∂x u|²) ∂x u), any solution, one-sided", "8"): {"Dirichlet, faces": 6},
}
"""What is of lower order than asked for: beside a wall the coefficient on it is taken from the nodes inside, mirrors
are of order 2 for solutions without symmetry, and some one-sided rows are not asymptotic on these grids."""

NOTES = """
A dash is a typed refusal. "c ∂x u" is centred transport with some diffusion. Grids have 32 and 64 nodes (64 and 128 for
finite volumes, 24 and 48 for order 8; 16 × 24 and 32 × 48 in two dimensions).

Walls mirror, and so keep the order for solutions that are even or odd about them, as those of the first rows are; "any
solution" is one that is not, for which one-sided closures keep it. Beside walls without flux the nonlinear one comes to
it late: 2.2, 3.4 and 3.7 are the orders from 32 to 64, 128 and 200 nodes. Waves between staggered fields have the
orders 2 to 8 between rigid walls (tests/test_staggered.py).

What stays below the order that was asked for besides are coefficients that lie on the nodes, given ones or functions
of u: on a wall they continue with their edge value. Beside Neumann and Robin conditions, whose flux they multiply, this
leaves order 1, and one-sided closures, which extrapolate them, order 2. A coefficient that is written as a function of
x lies where the flux does, and keeps the order, but for mirrors of orders above 2 about which it is not even.
"""


def main() -> None:
    found = table()
    write_atomic(RESULTS, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_atomic(ROOT / "docs" / "orders.md", page(found))


if __name__ == "__main__":
    main()
