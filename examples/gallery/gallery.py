"""A gallery of PDEs: each is a specification of at most twenty lines, a network, a picture that it made, and what is
known of it.

    python examples/gallery/gallery.py [NAME …]     # all in a minute; writes docs/gallery.md and docs/images/gallery/

The pictures show the state before and after; networks run in single precision as they are emitted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage
import torch
from matplotlib.figure import Figure
from torch import Tensor

import pdeloom as loom
from pdeloom.runtime.load import write_atomic
from pdeloom.runtime.net import from_spec
from pdeloom.runtime.spec import read_spec

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
IMAGES = ROOT / "docs" / "images" / "gallery"
SIZE = 96

Start = tuple[np.ndarray, dict[str, np.ndarray]]
"""The state (C, X, Y), and the data fields (X, Y)."""


def photograph(name: str, channels: int = 1) -> np.ndarray:
    """A photograph at a quarter of its size, with some noise."""
    image = skimage.util.img_as_float(getattr(skimage.data, name)())
    image = image if channels == 3 else skimage.color.rgb2gray(image) if image.ndim == 3 else image
    image = skimage.transform.rescale(image, 0.3, anti_aliasing=True, channel_axis=2 if image.ndim == 3 else None)
    image = np.moveaxis(image.reshape(*image.shape[:2], -1), 2, 0)[:, :128, :128]
    return np.clip(image + 0.06 * np.random.default_rng(0).standard_normal(image.shape), 0, 1)


def plane() -> tuple[np.ndarray, np.ndarray]:
    x = (np.arange(SIZE) + 0.5) / SIZE
    return np.meshgrid(x, x, indexing="ij")


def bump(x: float, y: float, width: float) -> np.ndarray:
    X, Y = plane()
    found: np.ndarray = np.exp(-((X - x) ** 2 + (Y - y) ** 2) / width**2)
    return found


def ridges() -> np.ndarray:
    """Rings with gaps and noise, as of a fingerprint."""
    X, Y = plane()
    rng = np.random.default_rng(0)
    rings = 0.5 + 0.5 * np.cos(2 * np.pi * np.hypot(X - 0.3, Y + 0.2) * 14)
    gaps = np.kron(rng.random((24, 24)) < 0.12, np.ones((4, 4)))
    found: np.ndarray = (np.where(gaps, 0.5, rings) + 0.2 * rng.standard_normal(rings.shape))[None]
    return found


def solitons() -> Start:
    """Two of different speeds, the faster one behind."""
    x = 0.25 * np.arange(240)
    waves = (k / 2 / np.cosh(np.sqrt(k) / 2 * (x - at)) ** 2 for k, at in ((2.0, 12.0), (0.7, 26.0)))
    found: np.ndarray = sum(waves, np.zeros(240))
    return found[None], {}


def sound() -> Start:
    """A pulse in air, before a heavy wall with two slits."""
    X, Y = plane()
    slit = np.minimum(abs(Y - 0.35), abs(Y - 0.65)) < 0.04
    air = np.where((abs(X - 0.5) < 0.03) & ~slit, 0.001, 1.0)
    return np.stack([bump(0.15, 0.5, 0.04), *np.zeros((2, SIZE, SIZE))]), {"b": air}


def gray_scott() -> Start:
    seed = np.zeros((SIZE, SIZE))
    seed[40:56, 40:56] = 1
    noise = 0.02 * np.random.default_rng(0).standard_normal((2, SIZE, SIZE))
    return np.stack([1 - 0.5 * seed, 0.25 * seed]) + noise, {}


def fitzhugh_nagumo() -> Start:
    X, Y = plane()
    return np.stack([np.where((X < 0.5) & (Y > 0.4), 1.0, -0.8), np.where(Y > 0.5, 0.3, -0.3)]), {}


def poisson() -> Start:
    return np.zeros((1, 127, 127)), {"f": 1e-3 * np.sign(np.random.default_rng(0).standard_normal((127, 127)) - 2.5)}


def inpainting() -> Start:
    image = photograph("camera")[0]
    mask = (np.random.default_rng(1).random(image.shape) < 0.15).astype(float)
    return (mask * image)[None], {"c": mask, "f": image}


STARTS: dict[str, Callable[[], Start]] = {
    "heat": lambda: (bump(0.5, 0.5, 0.2)[None], {}),
    "cooling": lambda: (np.ones((1, SIZE, SIZE)), {}),
    "perona_malik": lambda: (photograph("camera"), {}),
    "total_variation": lambda: (photograph("camera"), {}),
    "you_kaveh": lambda: (photograph("camera"), {}),
    "edges": lambda: (photograph("camera"), {}),
    "coherence": lambda: (ridges(), {}),
    "colour": lambda: (photograph("astronaut", 3), {}),
    "allen_cahn": lambda: (0.1 * np.random.default_rng(0).standard_normal((1, SIZE, SIZE)), {}),
    "fisher": lambda: (0.9 * (bump(0.3, 0.4, 0.05) + bump(0.8, 0.7, 0.03))[None], {}),
    "gray_scott": gray_scott,
    "fitzhugh_nagumo": fitzhugh_nagumo,
    "wave": lambda: (bump(0.3, 0.6, 0.05)[None], {}),
    "burgers": lambda: ((bump(0.3, 0.3, 0.15) - 0.8 * bump(0.7, 0.6, 0.15))[None], {}),
    "sound": sound,
    "basin": lambda: (np.stack([1 + bump(0.3, 0.35, 0.08), *np.zeros((2, SIZE, SIZE))]), {}),
    "wind": lambda: ((bump(0.75, 0.5, 0.1) + (np.hypot(*(p - 0.5 for p in plane())) < 0.12))[None], {}),
    "solitons": solitons,
    "layer": lambda: (np.exp(-(((np.arange(100) - 30) / 8) ** 2))[None], {}),
    "poisson": poisson,
    "inpainting": inpainting,
}


def network(name: str) -> loom.Net:
    return from_spec(read_spec(HERE / f"{name}.toml"))


def run(net: loom.Net, start: Start) -> tuple[Tensor, Tensor]:
    """The state before and after, (C, X, Y)."""
    u, data = start
    fields = {key: torch.from_numpy(value).float()[None, None] for key, value in data.items()}
    state = torch.from_numpy(u).float()[None]
    with torch.no_grad():
        return state[0], net.module()(state, **fields)[0]


def draw(name: str, before: Tensor, after: Tensor) -> None:
    """The first field, or a colour image of three."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    for panel, u, title in zip(figure.subplots(1, 2), (before, after), ("before", "after"), strict=True):
        if u.ndim == 2:
            panel.plot(u[0].numpy())
            panel.set(ylim=(-0.1, 1.1))
        elif name == "colour":
            panel.imshow(u.movedim(0, 2).clamp(0, 1).numpy())
        else:
            grey = name in ("perona_malik", "total_variation", "you_kaveh", "inpainting", "edges", "coherence")
            panel.imshow(u[0].numpy(), cmap="gray" if grey else "viridis")
        panel.set(title=title, xticks=[], yticks=[])
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGES / f"{name}.png", dpi=70)


def entry(name: str) -> list[str]:
    """The lines of one PDE on the page."""
    net, text = network(name), (HERE / f"{name}.toml").read_text(encoding="utf-8")
    title = net.pde.name or name
    result = net.stability[net.stability.governing]
    bound = "" if result.bound is None else f" for {net.stability.column.split()[0]} ≤ {result.bound:.4g}"
    layers = getattr(net.scheme, "layers", None) or getattr(net.scheme, "cycles", 0)
    unit = getattr(net.scheme, "unit", "cycle")
    count = len(net.compiled.problem.parameters)
    numbers = f"{count or 'no'} parameter{'s' * (count != 1)}{' that may be trained' * (count > 0)}"
    return [
        f"## {title[0].upper()}{title[1:]}",
        "",
        f"![{title}](images/gallery/{name}.png)",
        "",
        f"{net.architecture}, {layers} {unit}s; {numbers}; "
        f"{result.notion}: {result.status}{bound.replace('inf', '∞')}. "
        f"[{name}.toml](../examples/gallery/{name}.toml):",
        "",
        "```toml",
        text.rstrip(),
        "```",
        "",
    ]


def page() -> str:
    lines = ["# Gallery", "", __doc__.split("\n\n")[0], "", "Written by `python examples/gallery/gallery.py`.", ""]
    for name in STARTS:
        lines += entry(name)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(STARTS), metavar="NAME", help=", ".join(STARTS))
    names = parser.parse_args().names
    wrong = [name for name in names if name not in STARTS]
    if wrong:
        parser.error(f"{wrong[0]!r} is not in the gallery; choose among {', '.join(STARTS)}")
    for name in names:
        before, after = run(network(name), STARTS[name]())
        draw(name, before, after)
        print(f"{name}: {float(after.min()):.3g} to {float(after.max()):.3g}", flush=True)
    write_atomic(ROOT / "docs" / "gallery.md", page())


if __name__ == "__main__":
    main()
