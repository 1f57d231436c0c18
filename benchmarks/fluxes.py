"""What a learned flux costs: networks with mixtures against the same networks with one diffusivity, in one process.

    python benchmarks/fluxes.py

prints a table, forward and backward, eager, one thread: the median of ratios of neighbouring runs. And what is gained
by rows of windows that are channels of the convolutions, by fluxes that are computed a few rows of the grid at a time,
and the part of a step that the norms of a certificate take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from sympy import Eq

import pdeloom as loom

X, Y = loom.coordinates("x y")
U = loom.field("u", X, Y)
ROUNDS = 15
PATCHES = ((4, 48), (1, 256))
"""(batch, size) of what filters are trained on."""
IMAGES = ((1, 256), (1, 512))
AS_THEY_STAND = {"convolve": torch.conv2d, "transpose": torch.conv_transpose2d}
"""The convolutions one writes first: of one channel, and their transposes."""
AT_ONCE = {"by_rows": lambda flux, *values: flux(*values)}


def separable(g: Any) -> Any:
    return sum(loom.d(g(loom.d(U, a) ** 2) * loom.d(U, a), a) for a in (X, Y))


def isotropic(g: Any) -> Any:
    return loom.div(g(loom.norm2(loom.grad(U))) * loom.grad(U))


SPACES = {
    "separable": (separable, loom.FiniteDifference()),
    "isotropic": (isotropic, loom.FiniteDifference()),
    "32 filters of 5 × 5": (separable, loom.FilterBank(32, 5, symmetric=True, own_fluxes=True)),
}


def module(right: Any, space: Any, g: Any, trainable: Any) -> Any:
    pde = loom.PDE(Eq(loom.dt(U), right(g)), boundary=loom.NoFlux())
    return loom.compile(pde, space=space, scheme=loom.ForwardEuler(3), trainable=trainable).module()


def seconds(network: Any, u: torch.Tensor) -> float:
    return elapsed(lambda: network(u).square().mean().backward())


def seconds_still(network: Any, u: torch.Tensor) -> float:
    with torch.no_grad():
        return elapsed(lambda: network(u))


@contextmanager
def replaced(network: Any, functions: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """The network with other functions of these names in its source."""
    names = type(network).step.__globals__
    own = {name: names[name] for name in functions}
    names.update(functions)
    try:
        yield
    finally:
        names.update(own)


def gained(network: Any, functions: dict[str, Callable[..., Any]], u: torch.Tensor) -> str:
    """The time of the network : its time with these functions, forward and backward, and without gradients."""
    ratios = []
    for _ in range(ROUNDS):
        own = seconds(network, u), seconds_still(network, u)
        with replaced(network, functions):
            ratios.append((own[0] / seconds(network, u), own[1] / seconds_still(network, u)))
    return " | ".join(f"{statistics.median(r):.2f}" for r in zip(*ratios, strict=True))


def elapsed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    kinds = {"rational": "perona-malik", "gaussian": "perona-malik-exponential", "charbonnier": "charbonnier"}
    print("| network | flux | six terms : one |\n|---|---|---:|")
    for name in SPACES:
        u = torch.rand(8, 1, 48, 48) if "filters" in name else torch.rand(8, 1, 256, 256)
        for kind, single in {**kinds, "spline": "huber"}.items():
            lam = loom.parameter("lam", 0.1, positive=True)
            g = loom.learned_flux("g", kind, 6, loom.diffusivity(single, 0.1))
            one, six = module(*SPACES[name], loom.diffusivity(single, lam), [lam]), module(*SPACES[name], g, [g])
            seconds(one, u), seconds(six, u)
            ratios = [seconds(six, u) / seconds(one, u) for _ in range(ROUNDS)]
            print(f"| {name} | {kind} | {statistics.median(ratios):.2f} |")
    print("\n| filters | images | rows as channels : conv2d and conv_transpose2d as they stand | without gradients |")
    print("|---|---|---:|---:|")
    lam = loom.parameter("lam", 0.1, positive=True)
    for channels, size in ((8, 3), (16, 5), (32, 7), (64, 7)):
        space = loom.FilterBank(channels, size, init="dct")
        network = module(isotropic, space, loom.diffusivity("perona-malik", lam), [lam, "stencil"])
        for batch, side in PATCHES:
            row = gained(network, AS_THEY_STAND, torch.rand(batch, 1, side, side))
            print(f"| {channels} of {size} × {size} | {batch} × {side}² | {row} |")
    print("\n| fluxes of 32 filters of 7 × 7 | images | a few rows at a time : at once | without gradients |")
    print("|---|---|---:|---:|")
    for kind, single in kinds.items():
        g = loom.learned_flux("g", kind, 4, loom.diffusivity(single, 0.1))
        network = module(isotropic, loom.FilterBank(32, 7, init="dct", own_fluxes=True), g, [g, "stencil"])
        for batch, side in IMAGES:
            row = gained(network, AT_ONCE, torch.rand(batch, 1, side, side))
            print(f"| four, {kind} | {batch} × {side}² | {row} |")
    print("\n| filters | their norms : a training step of 4 × 48² with them |\n|---|---:|")
    u = torch.rand(4, 1, 48, 48)
    for size in (5, 7, 11):
        space = loom.FilterBank(32, size, init="dct", symmetric=True)
        network = module(isotropic, space, loom.diffusivity("charbonnier", lam), [lam, "stencil", "tau"])
        norms = partial(lambda net: sum(map(net.norm2_K, range(net.steps))).backward(), network)
        ratios = [elapsed(norms) / seconds(network, u) for _ in range(ROUNDS)]
        print(f"| 32 of {size} × {size} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
