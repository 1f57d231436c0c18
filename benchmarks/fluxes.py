"""What a learned flux costs: networks with mixtures against the same networks with one diffusivity, in one process.

    python benchmarks/fluxes.py

prints a table, forward and backward, eager, one thread: the median of ratios of neighbouring runs. And what `fit` gains
by convolutions that are not oneDNN's, and the part of its steps that the norms of a certificate take.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from sympy import Eq

import pdeloom as loom
from pdeloom.runtime.fit import plain_convolutions

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
    "32 filters of 7 × 7": (isotropic, loom.FilterBank(32, 7, init="dct", symmetric=True, own_fluxes=True)),
}


def module(right: Any, space: Any, g: Any, trainable: Any) -> Any:
    pde = loom.PDE(Eq(loom.dt(U), right(g)), boundary=loom.NoFlux())
    return loom.compile(pde, space=space, scheme=loom.ForwardEuler(3), trainable=trainable).module()


def seconds(network: Any, u: torch.Tensor) -> float:
    return elapsed(lambda: network(u).square().mean())


def elapsed(loss: Callable[[], torch.Tensor]) -> float:
    started = time.perf_counter()
    loss().backward()
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    kinds = {"rational": "perona-malik", "gaussian": "perona-malik-exponential", "charbonnier": "charbonnier"}
    print("| network | flux | six terms : one |\n|---|---|---:|")
    *compared, bank = SPACES
    for name in compared:
        u = torch.rand(8, 1, 48, 48) if "filters" in name else torch.rand(8, 1, 256, 256)
        for kind, single in {**kinds, "spline": "huber"}.items():
            lam = loom.parameter("lam", 0.1, positive=True)
            g = loom.learned_flux("g", kind, 6, loom.diffusivity(single, 0.1))
            one, six = module(*SPACES[name], loom.diffusivity(single, lam), [lam]), module(*SPACES[name], g, [g])
            seconds(one, u), seconds(six, u)
            ratios = [seconds(six, u) / seconds(one, u) for _ in range(ROUNDS)]
            print(f"| {name} | {kind} | {statistics.median(ratios):.2f} |")
    print("\n| patches | PyTorch's own convolutions : oneDNN's, 32 filters of 7 × 7 |\n|---|---:|")
    lam = loom.parameter("lam", 0.1, positive=True)
    network = module(*SPACES[bank], loom.diffusivity("perona-malik", lam), [lam, "stencil"])
    for batch, size in PATCHES:
        u = torch.rand(batch, 1, size, size)
        ratios = []
        for _ in range(ROUNDS):
            with plain_convolutions():
                plain = seconds(network, u)
            ratios.append(plain / seconds(network, u))
        print(f"| {batch} × {size}² | {statistics.median(ratios):.2f} |")
    print("\n| filters | their norms : a training step of 4 × 48² with them |\n|---|---:|")
    u = torch.rand(4, 1, 48, 48)
    for size in (5, 7, 11):
        space = loom.FilterBank(32, size, init="dct", symmetric=True)
        network = module(isotropic, space, loom.diffusivity("charbonnier", lam), [lam, "stencil", "tau"])
        norms = partial(lambda net: sum(map(net.norm2_K, range(net.steps))), network)
        with plain_convolutions():
            ratios = [elapsed(norms) / seconds(network, u) for _ in range(ROUNDS)]
        print(f"| 32 of {size} × {size} | {statistics.median(ratios):.2f} |")


if __name__ == "__main__":
    main()
