"""How many layers does it take? One diffusion time, one error, and the schemes that reach them.

    python examples/acceleration.py            # writes docs/acceleration.md and docs/images/acceleration.png

Nonlinear diffusion (Charbonnier) of a signal and of an image, up to a time for which an explicit scheme needs hundreds
of layers. Every scheme runs at growing cost until its error against a fine RK4 solution falls below 1 % of the change
that the diffusion makes. An evaluation is one application of f, or one iteration of the solver of an implicit step: of
conjugate gradients, of Newton, or one of Thomas' algorithm. Milliseconds are of the emitted module in eager mode in
float64 on one thread, all in one process.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage
import torch
from sympy import Eq

import pdeloom as loom

ROOT = Path(__file__).parents[1]
TARGET = 0.01
COSTS = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 65, 80, 100, 130, 160, 200, 260, 320, 400, 500]


@dataclass(frozen=True)
class Problem:
    """A PDE, its initial state and the time to reach."""

    name: str
    pde: loom.PDE
    u: torch.Tensor
    T: float
    rho: float

    def exact(self) -> torch.Tensor:
        """RK4 at a quarter of its stability limit: an error below 1e-6."""
        steps = math.ceil(self.T * self.rho / 0.7)
        return self.run(loom.RungeKutta(4, steps, tau=self.T / steps))[0]

    def run(self, scheme: loom.Scheme) -> tuple[torch.Tensor, loom.Net, int]:
        """The state at T, the network, and the iterations of its solves."""
        net = loom.compile(self.pde, scheme=scheme)
        module = net.module(dtype=torch.float64)
        with torch.no_grad():
            if net.architecture != "RNN":
                return module(self.u), net, 0
            new, history = module(self.u, history=True)
            return new, net, sum(len(h) - 1 for h in history)


def problems() -> list[Problem]:
    rng = np.random.default_rng(0)
    n = 256
    signal = (np.arange(n) // 32 % 2) + 0.2 * rng.standard_normal(n)
    image = skimage.util.img_as_float(skimage.data.camera())[128:384:4, 128:384:4]
    image = image + 0.05 * rng.standard_normal(image.shape)
    found = []
    for name, axes, values, T in (("1-D signal", "x", signal, 100.0), ("2-D image", "x y", image, 25.0)):
        coordinates = loom.coordinates(axes)
        coordinates = coordinates if isinstance(coordinates, tuple) else (coordinates,)
        u = loom.field("u", *coordinates)
        g = loom.diffusivity("charbonnier", 0.1)
        flow = loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u))
        pde = loom.PDE(Eq(loom.dt(u), flow), boundary=loom.NoFlux())
        found.append(Problem(name, pde, torch.from_numpy(values)[None, None], T, 4.0 * len(coordinates)))
    return found


def explicit(p: Problem) -> Iterator[loom.Scheme]:
    least = math.ceil(p.T * p.rho / 2)
    yield from (loom.ForwardEuler(least * k, tau=p.T / (least * k)) for k in (1, 2, 4))


def cyclic(cls: type[loom.Scheme]) -> Callable[[Problem], Iterator[loom.Scheme]]:
    """One to eight cycles, each as short as stability allows: τ(n² + n)/3 per cycle, τρ ≤ 2."""

    def schemes(p: Problem) -> Iterator[loom.Scheme]:
        for cycles in (1, 2, 3, 4, 6, 8, 12, 16, 24):
            n = math.ceil((math.sqrt(1 + 6 * p.T * p.rho / cycles) - 1) / 2)
            yield cls(cycles, n, tau=3 * p.T / (cycles * (n**2 + n)))

    return schemes


def rkl(order: int) -> Callable[[Problem], Iterator[loom.Scheme]]:
    """One to sixteen super-steps, with s² + s ≥ τρ (order 1) or (s² + s − 2)/2 ≥ τρ (order 2)."""

    def schemes(p: Problem) -> Iterator[loom.Scheme]:
        for steps in (1, 2, 3, 4, 6, 8, 12, 16):
            x = p.T * p.rho / steps
            s = math.ceil((math.sqrt(1 + 4 * x if order == 1 else 9 + 8 * x) - 1) / 2)
            yield loom.RKL(order, s, steps, tau=p.T / steps)

    return schemes


def stepwise(cls: type[loom.Scheme]) -> Callable[[Problem], Iterator[loom.Scheme]]:
    return lambda p: (cls(steps, tau=p.T / steps) for steps in COSTS)


SCHEMES: dict[str, Callable[[Problem], Iterator[loom.Scheme]]] = {
    "explicit": explicit,
    "FED": cyclic(loom.FED),
    "FSI": cyclic(loom.FSI),
    "RKL1": rkl(1),
    "RKL2": rkl(2),
    "Du Fort–Frankel": stepwise(loom.DuFortFrankel),
    "semi-implicit": stepwise(loom.SemiImplicit),
    "implicit Euler": stepwise(loom.BackwardEuler),
}


@dataclass(frozen=True)
class Run:
    layers: int
    evaluations: int
    error: float
    ms: float


def runs(p: Problem, name: str, exact: torch.Tensor) -> list[Run]:
    """All runs of a scheme up to the first that reaches the target twice over."""
    found: list[Run] = []
    for scheme in SCHEMES[name](p):
        try:
            new, net, iterations = p.run(scheme)
        except loom.ConvergenceError:
            continue
        error = float((new - exact).norm() / (p.u - exact).norm())
        stages = net.scheme.structure.evaluations
        evaluations = net.scheme.layers * stages if net.architecture != "RNN" else iterations
        found.append(Run(net.scheme.layers, evaluations, error, milliseconds(net, p.u)))
        if error < TARGET / 2:
            break
    return found


def milliseconds(net: loom.Net, u: torch.Tensor) -> float:
    module, times = net.module(dtype=torch.float64), []
    with torch.no_grad():
        for _ in range(3):
            begin = time.perf_counter()
            module(u)
            times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def first(found: list[Run]) -> Run | None:
    return next((run for run in found if run.error <= TARGET), None)


def wrong_answers() -> list[tuple[float, float, float]]:
    """Du Fort–Frankel for the heat equation at t = 0.05: stable for every τ, and wrong where τ/h is not small."""
    rows = []
    for n in (32, 64, 128):
        h = 1 / n
        x = loom.coordinates("x")
        u = loom.field("u", x)
        pde = loom.PDE(Eq(loom.dt(u), loom.laplacian(u)), boundary=loom.NoFlux())
        wave = torch.cos(torch.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n)[None, None]
        errors = []
        for tau in (h / 4, h**2):
            steps = round(0.05 / tau)
            net = loom.compile(pde, grid=loom.Grid(h), scheme=loom.DuFortFrankel(steps, tau=0.05 / steps))
            with torch.no_grad():
                new = net.module(dtype=torch.float64)(wave)
            errors.append(float((new - math.exp(-(math.pi**2) * 0.05) * wave).norm() / wave.norm()))
        rows.append((h, *errors))
    return rows


def n_squared() -> list[str]:
    """Its section of the page."""
    lines = [
        "## The n² effect",
        "",
        "Stable time of n layers in units of the explicit limit 2/ρ, derived from the schemes:",
        "",
        "| n | explicit | FED, FSI | RKL1 | RKL2 |",
        "|---:|---:|---:|---:|---:|",
    ]
    for k in (1, 3, 5, 10, 20, 40):
        cycle = float(loom.FSI(1, k).real_interval()) / 2 * (k**2 + k) / 3
        one = float(loom.RKL(1, k, 1).real_interval()) / 2
        two = f"{float(loom.RKL(2, k, 1).real_interval()) / 2:.1f}" if k > 1 else "–"
        lines.append(f"| {k} | {k} | {cycle:.1f} | {one:.1f} | {two} |")
    return lines


def stable_and_wrong() -> list[str]:
    """Its section of the page."""
    return [
        "## Stable and wrong",
        "",
        "Du Fort–Frankel is stable for every τ, but with α = ρ/4 it solves u_t + ατ²u_tt = f(u), and ατ² = (τ/h)² does",
        "not vanish when τ and h go to zero together. The heat equation at t = 0.05, relative errors:",
        "",
        "| h | τ = h/4 | τ = h² |",
        "|---:|---:|---:|",
        *(f"| 1/{round(1 / h)} | {fixed:.2%} | {fine:.3%} |" for h, fixed, fine in wrong_answers()),
    ]


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    lines = [
        "# Acceleration",
        "",
        "Written by `python examples/acceleration.py`; its docstring says what is measured.",
        "",
    ]
    for panel, p in zip(axes, problems(), strict=False):
        exact = p.exact()
        lines += [f"## {p.name}, {tuple(p.u.shape[2:])} nodes, T = {p.T:g}, an error of {TARGET:.0%}", ""]
        lines += ["| scheme | layers | evaluations | error | ms |", "|---|---:|---:|---:|---:|"]
        for name in SCHEMES:
            found = runs(p, name, exact)
            panel.loglog([r.evaluations for r in found], [r.error for r in found], "o-", ms=3, label=name)
            best = first(found)
            if best is None:
                lowest = min(r.error for r in found)
                lines.append(f"| {name} | not within {found[-1].layers} | – | {lowest:.2%} at best | – |")
            else:
                lines.append(f"| {name} | {best.layers} | {best.evaluations} | {best.error:.2%} | {best.ms:.1f} |")
            print(lines[-1])
        panel.axhline(TARGET, color="0.7", lw=0.8)
        panel.set(title=p.name, xlabel="evaluations, or solver iterations", ylabel="relative error")
        lines.append("")
    axes[0].legend(fontsize=6)

    n = np.arange(1, 41)
    axes[2].plot(n, n, label="n explicit steps")
    axes[2].plot(n, (n**2 + n) / 3, label="a cycle of FED or FSI")
    axes[2].plot(n, (n**2 + n) / 2, label="a super-step of RKL1")
    axes[2].set(title="time that n layers cover", xlabel="n", ylabel="t / τ_max")
    axes[2].legend(fontsize=6)
    lines += ["![Error over evaluations, and time over layers](images/acceleration.png)", ""]

    lines += [*n_squared(), "", *stable_and_wrong()]
    (ROOT / "docs/acceleration.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figure.savefig(ROOT / "docs/images/acceleration.png", dpi=110)


if __name__ == "__main__":
    main()
