"""What a learned flux costs: networks with mixtures against the same networks with one diffusivity, in one process.

    python benchmarks/fluxes.py

prints a table, forward and backward, eager, one thread: the median of ratios of neighbouring runs. And what is gained
by rows of windows that are channels of the convolutions, and the part of a step that the norms of a certificate take.
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
def as_they_stand(network: Any) -> Iterator[None]:
    """The network with the convolutions one writes first: of one channel, and their transposes."""
    names = type(network).step.__globals__
    own = {name: names[name] for name in ("convolve", "transpose")}
    names.update(convolve=torch.conv2d, transpose=torch.conv_transpose2d)
    try:
        yield
    finally:
        names.update(own)


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
            u = torch.rand(batch, 1, side, side)
            ratios, still = [], []
            for _ in range(ROUNDS):
                rows, rows_still = seconds(network, u), seconds_still(network, u)
                with as_they_stand(network):
                    ratios.append(rows / seconds(network, u))
                    still.append(rows_still / seconds_still(network, u))
            row = f"{statistics.median(ratios):.2f} | {statistics.median(still):.2f}"
            print(f"| {channels} of {size} × {size} | {batch} × {side}² | {row} |")
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
