"""Half the weights, and as good? Tied blocks u − τKᵀΦ(Ku) against free ones, and the skips of other schemes, in 1-D.

    python examples/half_the_weights.py [ARM …]     # 80 minutes on one core; finished runs are kept

Denoising of signals of 128 samples, σ = 0.1: half of them piecewise affine with a ripple, half rows of the photographs
of scikit-image. Every network has filters of 7 taps, a data term β(f − u) in every layer, and in every layer a flux of
its own that all channels share.

    relu           u + W₂ReLU(W₁u + b), W₁, W₂ and b free
    untied         u − WΦ(Ku), W and K free, Φ the nonmonotone flux of "symmetric", started there
    symmetric      u − τKᵀΦ(Ku): half the filters; any weights, nothing is proved
    norm-stable    the same with even or odd filters and positive weights inside its bound: norms cannot grow, proved
    nonexpansive   the same with monotone fluxes: distances cannot grow, proved
    fsi            fast semi-iterative skips, cycles of four layers with one set of weights each
    dff            Du Fort–Frankel skips over two layers
    rnn            implicit Euler steps, each a recurrence of four damped fixed point iterations

Every arm and size is trained with five seeds (filters, data and noise) at three learning rates, all fifteen at once by
vmap; the rate with the best mean validation PSNR counts. Intervals are paired bootstraps over the test signals, of
means over the seeds.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from sympy import Eq
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

import pdeloom as loom
from pdeloom.runtime.data import SKIMAGE_TEST, SKIMAGE_TRAIN, skimage_images
from pdeloom.runtime.load import write_atomic

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "examples" / "results" / "half_the_weights.json"
SIGMA, LENGTH, TAPS, TERMS = 0.1, 128, 7, 3
STEPS, BATCH, SEEDS, RATES = 1200, 8, 5, (0.003, 0.01, 0.03)
TESTS = 96
SIZES = ((2, 4), (4, 4), (8, 4), (16, 4), (8, 8), (16, 8))
"""(channels, layers)."""


# --- the networks ---------------------------------------------------------------------------------------------


def compiled(
    channels: int, seed: int, scheme: Any, kind: str = "rational", sign: str = "positive", **options: Any
) -> Any:
    x = loom.coordinates("x")
    u, f = loom.field("u", x), loom.data("f", x)
    beta = loom.parameter("beta", 0.1, positive=True)
    start = {"rational": "perona-malik", "charbonnier": "charbonnier"}[kind]
    g = loom.learned_flux("g", kind, TERMS, loom.diffusivity(start, 0.1), sign)
    right = loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u)) + beta * (f - u)
    symmetric = sign == "positive"
    return loom.compile(
        loom.PDE(Eq(loom.dt(u), right), boundary=loom.NoFlux()),
        space=loom.FilterBank(channels, TAPS, init="orthonormal", symmetric=symmetric, seed=seed),
        scheme=scheme,
        trainable=["flux", beta, "stencil", "tau"],
        **options,
    )


def symmetric(channels: int, layers: int, seed: int) -> Any:
    return compiled(channels, seed, loom.ForwardEuler(layers, tau=0.2), sign="free", unstable="allow")


class Block(nn.Module):
    """L layers u + W σ(K u) + β(f − u), K and W of their own; signals continue as their mirror images."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        self.layers = layers
        self.log_beta = nn.Parameter(torch.full((layers,), math.log(0.02)))

    def filters(self, k: int) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def activation(self, s: Tensor, k: int) -> Tensor:
        raise NotImplementedError

    def forward(self, u: Tensor, f: Tensor) -> Tensor:
        for k in range(self.layers):
            K, W = self.filters(k)
            s = self.activation(nn.functional.conv1d(mirrored(u), K), k)
            u = u + nn.functional.conv1d(mirrored(s), W) + self.log_beta[k].exp() * (f - u)
        return u


class Relu(Block):
    def __init__(self, channels: int, layers: int, seed: int) -> None:
        super().__init__(channels, layers)
        generator = torch.Generator().manual_seed(seed)
        self.K = nn.Parameter(torch.randn(layers, channels, 1, TAPS, generator=generator) * math.sqrt(2 / TAPS))
        self.W = nn.Parameter(
            torch.randn(layers, 1, channels, TAPS, generator=generator) * 0.1 / math.sqrt(TAPS * channels)
        )
        self.b = nn.Parameter(torch.zeros(layers, channels, 1))

    def filters(self, k: int) -> tuple[Tensor, Tensor]:
        return self.K[k], self.W[k]

    def activation(self, s: Tensor, k: int) -> Tensor:
        return torch.relu(s + self.b[k])


class Untied(Block):
    """Starts as the symmetric network does: W = −τKᵀ with the same flux."""

    def __init__(self, channels: int, layers: int, seed: int) -> None:
        super().__init__(channels, layers)
        tied = symmetric(channels, layers, seed).module()
        self.register_buffer("basis", tied.basis_K)
        self.K = nn.Parameter(tied.weights_K.detach().clone())
        self.W = nn.Parameter((-0.2 * tied.weights_K.detach() @ tied.basis_K).flip(-1) @ tied.basis_K.T)
        self.a = nn.Parameter(torch.stack([tied.get_parameter(f"raw_g_a{j}").detach() for j in (1, 2, 3)], 1))
        self.log_l = nn.Parameter(torch.stack([tied.get_parameter(f"log_g_l{j}").detach() for j in (1, 2, 3)], 1))

    def filters(self, k: int) -> tuple[Tensor, Tensor]:
        return (self.K[k] @ self.basis)[:, None], (self.W[k] @ self.basis)[None]

    def activation(self, s: Tensor, k: int) -> Tensor:
        l2 = (2 * self.log_l[k]).exp()
        return s * sum(self.a[k, j] * l2[j] / (l2[j] + s**2) for j in range(TERMS))


def mirrored(u: Tensor) -> Tensor:
    r = TAPS // 2
    return torch.cat((u[..., :r].flip(-1), u, u[..., -r:].flip(-1)), -1)


Arm = Callable[[int, int, int], Any]
"""(channels, layers, seed) to a module, or a net that makes one."""

ARMS: dict[str, Arm] = {
    "relu": Relu,
    "untied": Untied,
    "symmetric": symmetric,
    "norm-stable": lambda c, n, seed: compiled(c, seed, loom.ForwardEuler(n)),
    "nonexpansive": lambda c, n, seed: compiled(
        c, seed, loom.ForwardEuler(n), kind="charbonnier", guarantee="nonexpansive"
    ),
    "fsi": lambda c, n, seed: compiled(c, seed, loom.FSI(n // 4, 4)),
    "dff": lambda c, n, seed: compiled(c, seed, loom.DuFortFrankel(n, tau=0.2)),
    "rnn": lambda c, n, seed: compiled(
        c, seed, loom.BackwardEuler(n // 4, tau=1.0, solver=loom.Solver("damped", iterations=4)), kind="charbonnier",
        guarantee="nonexpansive",
    ),
}  # fmt: skip


# --- the signals ----------------------------------------------------------------------------------------------


def piecewise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Affine pieces between jumps, in a quarter of them with a ripple, scaled to [0, 1]."""
    signals = np.empty((count, LENGTH))
    for signal in signals:
        cuts = np.sort(rng.choice(np.arange(4, LENGTH - 4), rng.integers(1, 7), replace=False))
        for a, b in zip([0, *cuts], [*cuts, LENGTH], strict=True):
            signal[a:b] = rng.uniform() + rng.uniform(-1, 1) * np.linspace(0, 1, LENGTH)[: b - a]
        if rng.uniform() < 0.25:
            signal += 0.1 * np.sin(2 * np.pi * rng.uniform(2, 8) * np.linspace(0, 1, LENGTH) + rng.uniform(0, 6))
        signal -= signal.min()
        signal /= signal.max()
    return signals


def rows(count: int, photographs: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Pieces of rows and columns of photographs."""
    found = np.empty((count, LENGTH))
    for signal in found:
        image = photographs[rng.integers(len(photographs))]
        image = image if rng.uniform() < 0.5 else image.T
        i, j = rng.integers(image.shape[0]), rng.integers(image.shape[1] - LENGTH + 1)
        signal[:] = image[i, j : j + LENGTH]
    return found


def signals(count: int, photographs: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Half of each kind: (count, 1, 128)."""
    return np.concatenate([piecewise(count // 2, rng), rows(count - count // 2, photographs, rng)])[:, None]


def tensors(clean: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    noisy = clean + SIGMA * rng.standard_normal(clean.shape)
    return torch.from_numpy(noisy.astype(np.float32)), torch.from_numpy(clean.astype(np.float32))


def photographs(names: tuple[str, ...]) -> list[np.ndarray]:
    return [image[0, 0].numpy().astype(float) for image in skimage_images(names)]


# --- training -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One arm at one size, at its best rate: dB per test signal, mean over seeds, first piecewise ones, then rows."""

    arm: str
    channels: int
    layers: int
    parameters: int
    multiplications: int
    certificate: str
    rate: float
    validation: list[float]
    """Mean validation PSNR by rate."""
    seeds: list[float]
    """Mean test PSNR of every seed."""
    psnr: list[float]


def psnr(u: Tensor, clean: Tensor) -> Tensor:
    """(…, 1, N) to (…): finite also for networks that diverged."""
    error = (u - clean).square().mean((-2, -1)).nan_to_num(1e6, 1e6, 1e6)
    return -10 * error.clamp(1e-8, 1e6).log10()


def train(arm: str, channels: int, layers: int, steps: int = STEPS) -> Run:
    members = [ARMS[arm](channels, layers, seed) for seed in range(SEEDS)]
    modules = [m if isinstance(m, nn.Module) else m.module() for m in members]
    base, rates = modules[0], torch.tensor(RATES).repeat_interleave(SEEDS)
    starts = []
    for module in modules:  # of one class, as vmap needs them
        starts.append(copy.deepcopy(base))
        starts[-1].load_state_dict(module.state_dict())
    weights, buffers = stack_module_state(starts * len(RATES))
    weights = {name: w.detach() for name, w in weights.items()}

    def apply(w: Any, b: Any, noisy: Tensor) -> Tensor:
        result: Tensor = functional_call(base, (w, b), (noisy, noisy))
        return result

    def loss(w: Any, b: Any, noisy: Tensor, clean: Tensor) -> Tensor:
        return (apply(w, b, noisy) - clean).square().mean()

    gradient, everywhere = vmap(grad(loss)), vmap(apply, in_dims=(0, 0, None))
    training = photographs(SKIMAGE_TRAIN)
    streams = [np.random.default_rng([seed, 1]) for seed in range(SEEDS)]
    moments = {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in weights.items()}
    for step in range(steps):
        drawn = [tensors(signals(BATCH, training, rng), rng) for rng in streams]
        noisy, clean = (torch.stack(part).repeat(len(RATES), 1, 1, 1) for part in zip(*drawn, strict=True))
        part = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps))
        for name, g in gradient(weights, buffers, noisy, clean).items():  # Adam, every member at its own rate
            first, second = moments[name]
            g = g.nan_to_num(0, 0, 0)
            first.lerp_(g, 0.1)
            second.lerp_(g.square(), 0.001)
            scale = (part * rates).reshape(-1, *[1] * (g.dim() - 1))
            ratio = (first / (1 - 0.9 ** (step + 1))) / ((second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            weights[name] = weights[name] - scale * ratio
    rng = np.random.default_rng(7)
    with torch.no_grad():
        noisy, clean = tensors(signals(2 * TESTS, training, rng), rng)
        validation = psnr(everywhere(weights, buffers, noisy), clean).mean(1).reshape(len(RATES), SEEDS).mean(1)
        best = int(validation.argmax())
        noisy, clean = tensors(signals(2 * TESTS, photographs(SKIMAGE_TEST), rng), rng)
        found = psnr(everywhere(weights, buffers, noisy), clean).reshape(len(RATES), SEEDS, -1)[best]
    certificate = "–"
    if hasattr(base, "certificate"):
        base.load_state_dict({name: w[best * SEEDS] for name, w in weights.items()}, strict=False)
        certificate = base.certificate()["status"]
    return Run(
        arm, channels, layers, sum(w[0].numel() for w in weights.values()), 2 * layers * channels * TAPS, certificate,
        RATES[best], validation.tolist(), found.mean(1).tolist(), [round(float(p), 4) for p in found.mean(0)],
    )  # fmt: skip


# --- the page -------------------------------------------------------------------------------------------------


def load() -> list[Run]:
    return [Run(**r) for r in json.loads(RESULTS.read_text(encoding="utf-8"))] if RESULTS.exists() else []


def keep(run: Run) -> list[Run]:
    key = list(ARMS).index
    runs = [r for r in load() if (r.arm, r.channels, r.layers) != (run.arm, run.channels, run.layers)] + [run]
    runs.sort(key=lambda r: (key(r.arm), r.layers, r.channels))
    write_atomic(RESULTS, json.dumps([asdict(r) for r in runs]) + "\n")
    return runs


def difference(a: Run, b: Run) -> tuple[float, float, float]:
    """The mean of a − b in dB and its 95 % interval, from 10,000 paired resamples of the test signals."""
    d = np.array(a.psnr) - np.array(b.psnr)
    means = d[np.random.default_rng(0).integers(0, len(d), (10_000, len(d)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(d.mean()), float(low), float(high)


def page(runs: list[Run]) -> str:
    by = {(r.arm, r.channels, r.layers): r for r in runs}
    lines = ["# Half the weights, and as good?", "", __doc__.split("\n\n", 2)[2].strip(), ""]
    lines += [
        *NOTES.strip().splitlines(),
        "",
        "Written by `python examples/half_the_weights.py`.",
        "",
        "![PSNR by size](images/half_the_weights.png)",
        "",
    ]
    lines += [
        "| arm | size | parameters | multiplications per sample | piecewise dB | rows dB | both dB (seeds) "
        "| rate | certificate |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for r in runs:
        lines.append(
            f"| {r.arm} | {r.channels} × {r.layers} | {r.parameters} | {r.multiplications} | "
            f"{np.mean(r.psnr[:TESTS]):.2f} | {np.mean(r.psnr[TESTS:]):.2f} | {np.mean(r.psnr):.2f} "
            f"({min(r.seeds):.2f} to {max(r.seeds):.2f}) | {r.rate:g} | {r.certificate} |"
        )
    lines += ["", "## At the same size, with half the filters", ""]
    lines += compared(by, [(a, (c, n), "untied", (c, n)) for a in list(ARMS)[2:] for c, n in SIZES])
    lines += ["", "## With about the same number of parameters, twice as wide", ""]
    lines += compared(by, [("symmetric", (2 * c, n), b, (c, n)) for b in ("untied", "relu") for c, n in SIZES])
    lines += ["", "## The same activation, or ReLU", ""]
    lines += compared(by, [("untied", (c, n), "relu", (c, n)) for c, n in SIZES])
    return "\n".join([*lines, ""])


NOTES = """
What it says. At the same size a tied block with half the filters is at most 0.05 dB below the untied one, and in five
of six sizes the difference is within its interval: the other half of the weights buys next to nothing. At the same
number of parameters the tied network, twice as wide, is better by 0.14 and 0.06 dB where networks are small, alike or
0.04 dB worse where they are large, for what was saved in weights costs multiplications. Both are 0.8 to 1.7 dB above a
ReLU ResNet, so that it is the nonmonotone activation that makes the difference, not the tie. A certificate of norms
costs 0.3 dB, one of distances 1.1 dB. Skips save weights: FSI with 64 parameters is where the norm-stable network is
with 256, and Du Fort–Frankel adds 0.01 to 0.05 dB to it. The recurrent network has monotone fluxes, and is where the
nonexpansive one is at 8 layers with a quarter of its weights.

What it does not say. Networks saturate here at some 8 channels; training is short (1200 steps), and the best rate of
most arms is the largest of the sweep, that of the ReLU network the smallest, whose largest net is also the least
stable between seeds.
"""


def compared(by: dict[Any, Run], pairs: list[Any]) -> list[str]:
    lines = ["| | parameters | against | parameters | difference dB [95 %] | |", "|---|---:|---|---:|---:|---|"]
    for a, at, b, there in pairs:
        if (a, *at) not in by or (b, *there) not in by:
            continue
        one, other = by[a, *at], by[b, *there]
        mean, low, high = difference(one, other)
        verdict = "better" if low > 0 else "worse" if high < 0 else "alike"
        lines.append(
            f"| {a} {at[0]} × {at[1]} | {one.parameters} | {b} {there[0]} × {there[1]} | {other.parameters} | "
            f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] | {verdict} |"
        )
    return lines


def draw(runs: list[Run]) -> None:
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for panel, what in zip(figure.subplots(1, 2, sharey=True), ("parameters", "multiplications"), strict=True):
        for arm in ARMS:
            own = sorted((getattr(r, what), float(np.mean(r.psnr))) for r in runs if r.arm == arm)
            panel.plot(*zip(*own, strict=True), marker="o", label=arm) if own else None
        panel.set(xscale="log", xlabel=f"{what}{' per sample' * (what != 'parameters')}")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("PSNR, dB")
    figure.axes[1].legend(fontsize=8)
    figure.savefig(ROOT / "docs/images/half_the_weights.png", dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arms", nargs="*", default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    arms = parser.parse_args().arms
    wrong = [arm for arm in arms if arm not in ARMS]
    if wrong:
        parser.error(f"{wrong[0]!r} is no arm; choose among {', '.join(ARMS)}")
    runs = load()
    done = {(r.arm, r.channels, r.layers) for r in runs}
    for channels, layers in SIZES:
        for arm in arms:
            if (arm, channels, layers) not in done:
                run = train(arm, channels, layers)
                print(
                    f"{arm} {channels} × {layers}: {np.mean(run.psnr):.2f} dB, {run.parameters} parameters", flush=True
                )
                runs = keep(run)
    draw(runs)
    write_atomic(ROOT / "docs" / "half_the_weights.md", page(runs))


if __name__ == "__main__":
    main()
