"""The main job: Perona–Malik declared, compiled, trained on real images, and compared with the classics.

Test images are never trained on. The hand-set scheme and TV get their best parameters *on the test images*,
which favours them; the trained network does not.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sympy import Eq
from torch import Tensor

from ..compiler.discretise import FiniteDifference
from ..compiler.errors import TrainingError
from ..compiler.fields import coordinates, div, dt, field, grad, norm2, parameter
from ..compiler.grid import Grid, NoFlux
from ..compiler.nonlinearity import diffusivity
from ..compiler.problem import PDE
from ..compiler.schemes.forward_euler import ForwardEuler
from .data import SKIMAGE_TEST, add_noise, load_images
from .fit import fit
from .load import write_atomic
from .metrics import Score, psnr, score
from .net import Net, compile, pretrained

SIGMA = 25 / 255
BLOCKS = 10
CONTRASTS = (0.02, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.17)
TV_WEIGHTS = (0.05, 0.06, 0.07, 0.08, 0.09, 0.1, 0.11, 0.12, 0.14)


@dataclass(frozen=True)
class Row:
    name: str
    score: Score
    parameters: str


def declare(contrast: float, blocks: int) -> Net:
    """Isotropic Perona–Malik as a ResNet."""
    x, y = coordinates("x y")
    u = field("u", x, y)
    lam = parameter("lam", contrast, positive=True)
    g = diffusivity("perona-malik", lam)
    pde = PDE(Eq(dt(u), div(g(norm2(grad(u))) * grad(u))), boundary=NoFlux(), name="perona-malik")
    return compile(pde, grid=Grid(1.0), space=FiniteDifference(2), scheme=ForwardEuler(blocks), trainable=[lam, "tau"])


def run(out: Path, steps: int) -> None:
    """Do it all, into `out`."""
    console = Console()
    started = time.perf_counter()
    torch.manual_seed(0)
    test = load_images("skimage", held_out=True)
    net = declare(0.1, BLOCKS)
    write_atomic(out / "net.py", net.source)
    console.print(f"[bold]{net!r}[/]\n{net.explain()}\n")

    contrast, count = _best_by_hand(test, 60)
    by_hand = declare(contrast, count).module()
    short, _ = _best_by_hand(test, BLOCKS, least=BLOCKS)
    try:
        fitted = fit(net.module(), data="skimage", steps=steps, sigma=SIGMA, out=out, seed=0)
    except TrainingError as error:
        raise TrainingError(f"{error} (pdeloom demo --out elsewhere)") from None
    weight = _best_tv(test)
    filters = pretrained("denoiser-norm-stable-25").module()

    rows = [
        Row("noisy", score(lambda u: u, test, SIGMA), "0"),
        Row(f"scheme by hand (λ={contrast:g}, {count} steps)", score(by_hand, test, SIGMA), "2 by hand"),
        Row(
            f"the same with {BLOCKS} steps (λ={short:g})",
            score(declare(short, BLOCKS).module(), test, SIGMA),
            "1 by hand",
        ),
        Row(f"TV-Chambolle (weight={weight:g})", score(lambda u: _tv(u, weight), test, SIGMA), "1 by hand"),
        Row(
            f"trained network ({BLOCKS} blocks)",
            score(fitted.module, test, SIGMA),
            str(sum(p.numel() for p in fitted.module.parameters())),
        ),
        Row(
            "learned filters (pretrained on BSD400)",
            score(lambda u: filters(u, f=u), test, SIGMA),
            str(sum(p.numel() for p in filters.parameters())),
        ),
    ]
    net.save(out, fitted.module, train={"data": "skimage", "steps": steps, "sigma": SIGMA, "out": str(out)})
    net.report(out / "report.html", fitted.module)
    _picture(out / "demo.png", test[0], by_hand, fitted.module, filters)
    table = [{"name": r.name, "parameters": r.parameters, **r.score.__dict__} for r in rows]
    write_atomic(out / "table.json", json.dumps(table, indent=2, ensure_ascii=False) + "\n")
    _show(console, rows)
    certificate = fitted.certificate
    console.print(f"certificate of the trained weights: {certificate['notion']} [bold]{certificate['status']}[/]")
    console.print(f"{time.perf_counter() - started:.0f} s; see {out}/report.html, {out}/net.py, {out}/demo.png")


def _best_by_hand(images: list[Tensor], most: int, least: int = 1) -> tuple[float, int]:
    """The contrast λ and the number of steps, least to most, with the best mean PSNR on these very images."""
    best = (-np.inf, 0.0, 0)
    noisy = [add_noise(image, SIGMA, i) for i, image in enumerate(images)]
    for contrast in track(CONTRASTS, description="scheme by hand"):
        module: Any = declare(contrast, 1).module()
        with torch.no_grad():
            states = list(noisy)
            for k in range(1, most + 1):
                states = [module(u) for u in states]
                if k < least:
                    continue
                value = float(np.mean([psnr(u.clamp(0, 1), c) for u, c in zip(states, images, strict=True)]))
                best = max(best, (value, contrast, k))
    return best[1], best[2]


def _tv(u: Tensor, weight: float) -> Tensor:
    from skimage.restoration import denoise_tv_chambolle

    return torch.from_numpy(denoise_tv_chambolle(u[0, 0].numpy(), weight=weight))[None, None].to(u.dtype)


def _best_tv(images: list[Tensor]) -> float:
    """TV's best weight on these very images."""
    values = {}
    for weight in track(TV_WEIGHTS, description="TV-Chambolle  "):
        noisy = [add_noise(image, SIGMA, i) for i, image in enumerate(images)]
        values[weight] = np.mean([psnr(_tv(u, weight).clamp(0, 1), c) for u, c in zip(noisy, images, strict=True)])
    return max(values, key=lambda w: values[w])


def _picture(path: Path, clean: Tensor, by_hand: Any, trained: Any, filters: Any) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import io

    import matplotlib.pyplot as plt

    noisy = add_noise(clean, SIGMA, 0)
    with torch.no_grad():
        panels = [
            ("clean", clean),
            ("noisy", noisy),
            ("scheme by hand", by_hand(noisy)),
            ("trained network", trained(noisy)),
            ("learned filters", filters(noisy, f=noisy)),
        ]
    figure, axes = plt.subplots(1, 5, figsize=(20, 4.4))
    for axis, (title, image) in zip(axes, panels, strict=True):
        value = "" if title == "clean" else f", {psnr(image.clamp(0, 1), clean):.2f} dB"
        axis.imshow(image[0, 0, 60:316, 120:376], cmap="gray", vmin=0, vmax=1)
        axis.set_title(title + value)
        axis.axis("off")
    figure.suptitle(f"{SKIMAGE_TEST[0]} (never trained on), σ = 25/255", y=1.0)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=90, format="png")
    plt.close(figure)
    write_atomic(path, buffer.getvalue())


def _show(console: Console, rows: list[Row]) -> None:
    table = Table(
        "",
        "PSNR dB",
        "SSIM",
        "parameters",
        "ms/megapixel",
        title=f"{', '.join(SKIMAGE_TEST)}; σ = 25/255",
        title_justify="left",
    )
    for row in rows:
        s = row.score
        table.add_row(row.name, f"{s.psnr:.2f}", f"{s.ssim:.4f}", row.parameters, f"{s.ms_per_megapixel:.0f}")
    console.print(table)
