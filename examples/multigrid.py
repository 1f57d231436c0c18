"""Multigrid in numbers: contraction on every grid, coefficients that jump, nonlinear problems next to Newton's method.

python examples/multigrid.py            # writes docs/multigrid_numbers.md; 3 minutes
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sympy import Eq, exp

import pdeloom as loom
from pdeloom.compiler.cycle_reference import Level

ROOT = Path(__file__).parents[1]
x, y = loom.coordinates("x y")
u, f, a = loom.field("u", x, y), loom.data("f", x, y), loom.data("a", x, y)
WALL = loom.Dirichlet(0)


def network(equation: Any, boundary: Any, h: float, **options: Any) -> loom.Net:
    pde = loom.PDE(equation, boundary=boundary)
    return loom.compile(pde, grid=loom.Grid(h), scheme=loom.Multigrid(**{"on_divergence": "accept", **options}))


@torch.no_grad()
def contraction(net: loom.Net, n: int, cycles: int) -> float:
    """By the power method, the right-hand side zero."""
    module, zero = net.module(torch.float64), torch.zeros(1, 1, n, n, dtype=torch.float64)
    v = torch.randn(zero.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes = []
    for _ in range(cycles):
        v = module((v - v.mean() * (net.pde.boundary != WALL)) / v.norm(), f=zero)
        sizes.append(float(v.norm()))
    return math.sqrt(sizes[-1] * sizes[-2])


def grids() -> list[str]:
    lines = ["| | predicted | 31² | 63² | 127² | 255² | 511² | 1023² |", "|---|---:|" + "---:|" * 6]
    for name, boundary, options in (
        ("red–black, V(2,2), Dirichlet", WALL, {}),
        ("red–black, V(2,2), Dirichlet, W", WALL, {"cycle": "W"}),
        ("Jacobi, V(2,2), Dirichlet", WALL, {"smoother": "jacobi"}),
        ("Jacobi, V(2,2), Dirichlet, R A P", WALL, {"smoother": "jacobi", "coarse": "galerkin"}),
        ("red–black, V(2,2), Dirichlet, R A P", WALL, {"coarse": "galerkin"}),
        ("Chebyshev, V(2,2), Dirichlet", WALL, {"smoother": "chebyshev"}),
        ("FSI, V(2,2), Dirichlet", WALL, {"smoother": "fsi"}),
        ("red–black, V(2,2), no flux, one node more", loom.NoFlux(), {}),
        ("red–black, V(2,2), no flux, as it stands", loom.NoFlux(), {}),
        ("red–black, V(2,2), no flux, one node more, R A P", loom.NoFlux(), {"coarse": "galerkin"}),
    ):
        cells = []
        for k in range(5, 11):
            n = 2**k - ("one node more" not in name)
            net = network(Eq(-loom.laplacian(u), f), boundary, 1 / (n + 1), cycles=1, **options)
            cells.append(f"{contraction(net, n, 12 if k < 9 else 8):.3f}")
        predicted = net.stability["two-grid factor"].bound
        lines.append(f"| {name} | {predicted:.3f} | " + " | ".join(cells) + " |")
    return lines


def jumps(n: int, boundary: Any, columns: dict[str, dict[str, Any]]) -> list[str]:
    """Cycles until the residual is 1e-8, for a disc with another coefficient."""
    i, j = np.indices((n, n)) / n - 0.5
    disc = i**2 + j**2 < 0.09
    lines = ["| a inside ÷ a outside | " + " | ".join(columns) + " |", "|---:|" + "---:|" * len(columns)]
    right = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 1, n, n)))
    right = right if boundary == WALL else right - right.mean()
    for ratio in (1, 10, 100, 1000, 0.001):
        values = torch.from_numpy(np.where(disc, float(ratio), 1.0))[None, None]
        cells = []
        for options in columns.values():
            net = network(Eq(-loom.div(a * loom.grad(u)), f), boundary, 1 / 64, cycles=60, tol=1e-8, **options)
            with torch.no_grad():
                _, history = net.module(torch.float64)(0 * right, a=values, f=right, history=True)
            done = float(history[-1]) <= 1e-8
            cells.append(f"{len(history) - 1}" if done else f"more than 60 ({float(history[-1]):.0e})")
        lines.append(f"| {ratio} | " + " | ".join(cells) + " |")
    return lines


RECOMBINED = {"cycles": {}, "recombined with 4": {"recombine": 4}, "with 8": {"recombine": 8}}
PRODUCTS = {
    "rediscretised": {},
    "R A P": {"coarse": "galerkin"},
    "R A P, 4 recombined": {"coarse": "galerkin", "recombine": 4},
}


def newton(net: loom.Net, start: np.ndarray, data: dict[str, np.ndarray], count: int) -> list[float]:
    """Residuals of Newton's method without damping, its systems solved exactly."""
    reference: Any = net.reference
    level = Level(reference, 0, net.compiled.elliptic.shapes(start.shape[2:]), data)
    b, v = reference.source(start.shape, data), start
    sizes = [float(np.linalg.norm(b - level.operator(v)))]
    with np.errstate(all="ignore"):
        for _ in range(count):
            v = v + np.linalg.solve(level.dense(v)[0], (b - level.operator(v)).ravel()).reshape(v.shape)
            sizes.append(float(np.linalg.norm(b - level.operator(v))))
    return [s / sizes[0] for s in sizes]


def nonlinear() -> list[str]:
    n, shown = 31, (1, 2, 4, 6, 8)
    i = (np.arange(n) + 1) / (n + 1)
    zero = np.zeros((1, 1, n, n))
    f0 = 1 + np.outer(np.sin(np.pi * i), np.sin(2 * np.pi * i))[None, None]
    poisson = network(Eq(-loom.laplacian(u), f), WALL, 1 / (n + 1), cycles=10).reference(zero, f=f0)
    lines = ["| | method | " + " | ".join(f"after {k}" for k in shown) + " |", "|---|---|" + "---:|" * len(shown)]

    def row(name: str, net: loom.Net, start: np.ndarray, data: dict[str, np.ndarray]) -> None:
        fields = {k: torch.from_numpy(v) for k, v in data.items()}
        with torch.no_grad():
            _, history = net.module(torch.float64)(torch.from_numpy(start), **fields, history=True)
        found = [float(r) for r in history]
        if len(data) < 2 and net.scheme.cycle == "V":
            rows = (("FAS, V(2,2)", found), ("Newton", newton(net, start, data, max(shown))))
        else:
            rows = (("FAS, W(2,2)", found),)
        for method, sizes in rows:
            cells = [f"{sizes[k]:.0e}" if math.isfinite(sizes[k]) else "fails" for k in shown]
            lines.append(f"| {name} | {method} | " + " | ".join(cells) + " |")

    for size in (1.0, 6.8, 8.0):
        strength = loom.parameter("lam", size, positive=True)
        for cycle in ("V", "W"):
            net = network(Eq(-loom.laplacian(u), strength * exp(u)), WALL, 1 / (n + 1), cycles=max(shown), cycle=cycle)
            row(f"Bratu, λ = {size}", net, zero, {})
    for p, start, text in (
        (1.5, zero, "from 0"),
        (1.2, zero, "from 0"),
        (3, poisson, "from Poisson's"),
        (4, zero, "from 0"),
    ):
        q = loom.norm2(loom.grad(u))
        flux = (0.1**2 + q) ** ((p - 2) / 2) * loom.grad(u)
        net = network(Eq(-loom.div(flux), f), WALL, 1 / (n + 1), cycles=max(shown))
        row(f"p-Laplacian, p = {p}, {text}", net, start, {"f": f0})
    return lines


def main() -> None:
    torch.set_num_threads(2)
    lines = [
        "# Multigrid in numbers",
        "",
        "Written by `python examples/multigrid.py`. What the methods are: [multigrid.md](multigrid.md).",
        "",
        "## Contraction per cycle, −Δu = f",
        "",
        "The two-grid factor of local Fourier analysis, and what the power method measures with all levels. Grids of",
        "2ᵏ cells nest; those of 2ᵏ − 1 do not, and are interpolated.",
        "",
        *grids(),
        "",
        "## A disc whose coefficient jumps",
        "",
        "Cycles V(2,2) until the residual is 1e-8, 63², Dirichlet walls. One mode, the constant on the disc, is slow:",
        "linear interpolation does not know of the jump. Iterates recombined are rid of it.",
        "",
        *jumps(63, WALL, RECOMBINED),
        "",
        "On cells, without flux, the product R A P of means and linear interpolation knows of the jump: 64², and 256².",
        "",
        *jumps(64, loom.NoFlux(), PRODUCTS),
        "",
        *jumps(256, loom.NoFlux(), PRODUCTS),
        "",
        "## Nonlinear problems: residuals per cycle, and of Newton's method per step, from the same start",
        "",
        "31², Dirichlet walls. Bratu's problem −Δu = λeᵘ has no solution beyond λ = 6.81, and near it both slow down;",
        "the p-Laplacian is −div((0.1² + |∇u|²)^((p−2)/2) ∇u) = f. Newton's method is not damped; a step of it solves",
        "a linear system, by elimination here, where a cycle costs some ten evaluations of A.",
        "",
        *nonlinear(),
    ]
    print("\n".join(lines))
    (ROOT / "docs" / "multigrid_numbers.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
