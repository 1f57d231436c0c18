"""Hybrid modelling: one unknown term inside a known PDE, found from noisy trajectories, five seeds of noise each.

    python examples/closure.py        # five minutes; writes docs/closure.md and docs/images/closure.png

Known is that the equation is one of diffusion; unknown is the reaction r(u), as a polynomial of degree three, or the
diffusivity, as a mixture of four Gaussian terms. The truth makes 8 trajectories on 20² nodes, of which the states
after 0, 4, 8 and 12 steps are seen, with Gaussian noise of 0 to 5 % of their range. The network that the hybrid
equation is starts without knowledge; the term and the true first states are fitted to all seen states, by Adam and then
by L-BFGS.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sympy import Eq

import pdeloom as loom
from pdeloom.runtime.load import write_atomic

ROOT = Path(__file__).parents[1]
SIZE, PER, SEEN, TRAJECTORIES = 20, 4, 4, 8
NOISE, SEEDS = (0.0, 0.01, 0.05), range(5)
x, y = loom.coordinates("x y")
u = loom.field("u", x, y)
q = loom.norm2(loom.grad(u))

TAU_REACTION, TAU_DIFFUSION = 0.2, 0.2
GRID, SLOPES = np.linspace(0, 1, 101), np.linspace(0, 0.3, 101)


def reaction(s: Any) -> Any:
    return 1.5 * s * (1 - s) * (s - 0.3)


def flux(s: Any) -> Any:
    """That of Perona and Malik, which no mixture of Gaussians is."""
    return s / (1 + (s / 0.15) ** 2)


def network(right: Any, tau: float, trainable: Any = ()) -> loom.Net:
    pde = loom.PDE(Eq(loom.dt(u), right), boundary=loom.NoFlux())
    return loom.compile(pde, scheme=loom.ForwardEuler(PER, tau=tau), trainable=trainable, shared=True, unstable="allow")


def trajectories(truth: loom.Net, seed: int, noise: float, smooth: int) -> torch.Tensor:
    """(SEEN, TRAJECTORIES, 1, X, Y): what is seen."""
    rng = np.random.default_rng(seed)
    start = rng.standard_normal((TRAJECTORIES, 1, SIZE, SIZE))
    for axis in (2, 3):
        for _ in range(smooth):
            start = (start + np.roll(start, 1, axis)) / 2
    start = (start - start.min((2, 3), keepdims=True)) / np.ptp(start, axis=(2, 3), keepdims=True)
    states = [start]
    for _ in range(SEEN - 1):
        states.append(truth.reference(states[-1]))
    seen = np.stack(states)
    return torch.from_numpy(seen + noise * rng.standard_normal(seen.shape))


def fit(module: torch.nn.Module, seen: torch.Tensor) -> float:
    """Maximum likelihood for the term and the true starts; the root of the mean squared error of all seen states."""
    start = torch.nn.Parameter(seen[0].clone())
    weights = [*module.parameters(), start]
    warm = torch.optim.Adam([{"params": weights[:-1], "lr": 0.03}, {"params": [start], "lr": 0.003}])
    optimiser = torch.optim.LBFGS(
        weights, max_iter=250, history_size=20, tolerance_grad=1e-12, tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def loss() -> torch.Tensor:
        states = [start]
        for _ in seen[1:]:
            states.append(module(states[-1]))
        value: torch.Tensor = (torch.stack(states) - seen).square().mean()
        optimiser.zero_grad()
        value.backward()
        return value

    for _ in range(150):  # L-BFGS from far away takes steps that blow up
        loss()
        warm.step()
    optimiser.step(loss)
    return float(loss().detach().sqrt())


def find_reaction(seed: int, noise: float) -> tuple[np.ndarray, float]:
    """r on [0, 1], and the residual."""
    truth = network(loom.laplacian(u) + reaction(u), TAU_REACTION)
    seen = trajectories(truth, seed, noise, smooth=6)
    a = [loom.parameter(f"a{j}", 0.0) for j in range(4)]
    r = sum(c * u**j for j, c in enumerate(a))
    module = network(loom.laplacian(u) + r, TAU_REACTION, a).module(torch.float64)
    residual = fit(module, seen)
    values = loom.lift(module).values[0]
    return sum(values[f"a{j}"] * GRID**j for j in range(4)), residual


def find_flux(seed: int, noise: float) -> tuple[np.ndarray, float]:
    """Φ on the slopes that 99 of 100 differences have, and the residual."""
    truth = network(loom.div(loom.diffusivity("perona-malik", 0.15)(q) * loom.grad(u)), TAU_DIFFUSION)
    seen = trajectories(truth, seed, noise, smooth=2)
    g = loom.learned_flux("g", "gaussian", 4, loom.diffusivity("charbonnier", 0.5))
    module = network(loom.div(g(q) * loom.grad(u)), TAU_DIFFUSION, [g]).module(torch.float64)
    residual = fit(module, seen)
    values = loom.lift(module).values[0]
    terms = (values[f"g_a{j}"] * np.exp(-((SLOPES / values[f"g_l{j}"]) ** 2) / 2) for j in range(1, 5))
    return SLOPES * sum(terms), residual


TASKS: dict[str, tuple[Callable[[int, float], tuple[np.ndarray, float]], Callable[[Any], Any], str, np.ndarray]] = {
    "reaction": (find_reaction, reaction, "r(u)", GRID),
    "diffusivity": (find_flux, flux, "Φ(s)", SLOPES),
}


def main() -> None:
    lines = ["# An unknown term in a known PDE", "", __doc__.split("\n\n", 2)[2].strip(), ""]
    lines += [
        "| unknown | noise | relative error, mean (worst) of five seeds | residual |",
        "|---|---:|---:|---:|",
    ]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for panel, (name, (find, truth, label, points)) in zip(figure.subplots(1, 2), TASKS.items(), strict=True):
        exact = truth(points)
        for noise in NOISE:
            found = [find(seed, noise) for seed in SEEDS]
            errors = [float(np.linalg.norm(f - exact) / np.linalg.norm(exact)) for f, _ in found]
            residual = statistics.mean(r for _, r in found)
            lines.append(
                f"| {name} | {100 * noise:g} % | {statistics.mean(errors):.2g} ({max(errors):.2g}) | {residual:.2g} |"
            )
            print(lines[-1], flush=True)
            panel.plot(points, found[0][0], label=f"found, noise {100 * noise:g} %")
        panel.plot(points, exact, "k--", label="truth")
        panel.set(title=f"{name} {label}", xlabel=label[2])
        panel.legend(fontsize=8)
    figure.savefig(ROOT / "docs" / "images" / "closure.png", dpi=80)
    write_atomic(ROOT / "docs" / "closure.md", "\n".join([*lines, NOTES]))


NOTES = """
![what was found](images/closure.png)

The equation in ten lines, for the reaction:

```python
import pdeloom as loom
from sympy import Eq

x, y = loom.coordinates("x y")
u = loom.field("u", x, y)
a = [loom.parameter(f"a{j}", 0.0) for j in range(4)]
pde = loom.PDE(Eq(loom.dt(u), loom.laplacian(u) + sum(c * u**j for j, c in enumerate(a))), boundary=loom.NoFlux())
net = loom.compile(pde, scheme=loom.ForwardEuler(4, tau=0.2), trainable=a, shared=True)
print(net.stability.warnings[0])
```

`loom.lift(module)` reads what was found back as an equation. The diffusivity is no mixture of Gaussian terms, and
without noise what is left is how near these come. At 5 % noise, which has slopes as large as the states have, it is
lost for some seeds, and the residual does not tell. A fit from the noisy states themselves, instead of first states
that are fitted as well, is worse in a trial: it learns to denoise.
"""


if __name__ == "__main__":
    main()
