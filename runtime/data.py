"""Images, and the noisy patches drawn from them.

Every batch is a function of (seed, step) alone, so a run resumes exactly wherever it stopped, and every process
of a distributed run draws its own part of the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..compiler.errors import DataError

SKIMAGE_TRAIN = ("astronaut", "chelsea", "coffee", "rocket")
SKIMAGE_TEST = ("camera", "coins", "moon")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def skimage_images(names: Sequence[str]) -> list[Tensor]:
    """Grey images (1, 1, H, W) in [0, 1] that ship with scikit-image; nothing is downloaded."""
    import skimage.data

    return [as_image(getattr(skimage.data, name)(), name) for name in names]


def as_image(array: Any, name: str = "image") -> Tensor:
    """An array (H, W) or (H, W, 3 or 4), 8 bit or floats in [0, 1], as a grey tensor (1, 1, H, W)."""
    from skimage.color import rgb2gray

    a = np.asarray(array)
    if a.dtype == np.uint8:
        a = a / 255.0
    elif a.dtype == np.uint16:
        a = a / 65535.0
    elif not np.issubdtype(a.dtype, np.floating):
        raise DataError(f"{name}: pixels of type {a.dtype}; give 8 or 16 bit, or floats in [0, 1]")
    if a.ndim == 3 and a.shape[2] in (3, 4):
        a = rgb2gray(a[..., :3])
    if a.ndim != 2:
        raise DataError(f"{name}: shape {a.shape}; give a grey image (H, W) or a colour image (H, W, 3)")
    if not np.isfinite(a).all() or a.min() < 0 or a.max() > 1:
        raise DataError(f"{name}: values from {a.min():g} to {a.max():g}; images must lie in [0, 1]")
    return torch.from_numpy(np.ascontiguousarray(a, dtype=np.float32))[None, None]


def load_images(data: Any, held_out: bool | None = False) -> list[Tensor]:
    """Training images, with `held_out` the ones never trained on, with None both.

    "skimage" is the built-in split; of a folder every tenth image (at least one) is held out; a list of arrays
    is taken as it is.
    """
    if isinstance(data, str) and data == "skimage":
        return skimage_images({True: SKIMAGE_TEST, False: SKIMAGE_TRAIN, None: SKIMAGE_TRAIN + SKIMAGE_TEST}[held_out])
    if isinstance(data, (str, Path)):
        folder = Path(data)
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
        if len(files) < 2:
            raise DataError(
                f"data {str(data)!r}: not 'skimage' and no folder with at least two images ({', '.join(_SUFFIXES)})"
            )
        from skimage.io import imread

        return [as_image(imread(p), p.name) for i, p in enumerate(files) if held_out in (None, i % 10 == 0)]
    images = list(data)
    if not images:
        raise DataError("data: an empty list; give at least one image")
    return [i if isinstance(i, Tensor) and i.dim() == 4 else as_image(i, f"image {k}") for k, i in enumerate(images)]


class Patches:
    """Clean and noisy patches (batch, 1, patch, patch), flipped and turned at random, for any step.

    `sigma` is the noise, or the lowest and the highest, between which every patch has its own.
    """

    def __init__(
        self, images: Sequence[Tensor], patch: int, batch: int, sigma: float | Sequence[float], seed: int
    ) -> None:
        small = [tuple(i.shape[2:]) for i in images if min(i.shape[2:]) < patch]
        if small:
            raise DataError(f"patch = {patch} is larger than an image of size {small[0]}; lower patch")
        self.images, self.patch, self.batch, self.sigma, self.seed = list(images), patch, batch, sigma, seed
        self._area = torch.tensor([float(i.numel()) for i in images])

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """(noisy, clean, σ) of one step, σ at every pixel."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 2 + 1)
        which = torch.multinomial(self._area, self.batch, replacement=True, generator=generator)
        corner = torch.rand(self.batch, 2, generator=generator)
        turn = torch.randint(8, (self.batch,), generator=generator)
        patches = []
        for i, (y, x), k in zip(which.tolist(), corner.tolist(), turn.tolist(), strict=True):
            image = self.images[i][0]
            top, left = int(y * (image.shape[1] - self.patch + 1)), int(x * (image.shape[2] - self.patch + 1))
            piece = image[:, top : top + self.patch, left : left + self.patch]
            piece = torch.rot90(piece, k % 4, (1, 2))
            patches.append(piece.flip(2) if k >= 4 else piece)
        clean = torch.stack(patches)
        noise = torch.randn(clean.shape, generator=generator)
        if isinstance(self.sigma, (int, float)):
            sigma = torch.full((self.batch, 1, 1, 1), float(self.sigma))
        else:
            low, high = self.sigma
            sigma = low + (high - low) * torch.rand(self.batch, 1, 1, 1, generator=generator)
        return clean + sigma * noise, clean, sigma.expand_as(clean)


def add_noise(image: Tensor, sigma: float, seed: int) -> Tensor:
    """The image with Gaussian noise of standard deviation σ, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return image + sigma * torch.randn(image.shape, generator=generator)
