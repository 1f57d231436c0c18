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
COLOUR_TEST = ("rocket",)
"""The colour photographs among them that networks of three fields are not trained on."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_HDF5 = (".h5", ".hdf5")


def skimage_images(names: Sequence[str], channels: int = 1) -> list[Tensor]:
    """Images (1, channels, H, W) in [0, 1] that ship with scikit-image; nothing is downloaded."""
    import skimage.data

    return [as_image(getattr(skimage.data, name)(), name, channels) for name in names]


def as_image(array: Any, name: str = "image", channels: int = 1) -> Tensor:
    """An array (H, W), (H, W, 3 or 4) or (H, W, channels), 8 or 16 bit or floats in [0, 1], as a tensor (1, channels,
    H, W): grey for one channel, else with its channels as they are; an alpha channel is left out."""
    from skimage.color import rgb2gray

    a = np.asarray(array.detach().cpu() if isinstance(array, Tensor) else array)
    if a.size == 0:
        raise DataError(f"{name}: shape {a.shape}; there is no pixel")
    if a.dtype == np.uint8:
        a = a / 255.0
    elif a.dtype == np.uint16:
        a = a / 65535.0
    elif not np.issubdtype(a.dtype, np.floating):
        raise DataError(f"{name}: pixels of type {a.dtype}; give 8 or 16 bit, or floats in [0, 1]")
    if a.ndim == 3 and a.shape[2] == 4 and channels in (1, 3):
        a = a[..., :3]
    if channels == 1 and a.ndim == 3 and a.shape[2] == 3:
        a = rgb2gray(a)
    if channels == 1 and a.ndim == 2:
        a = a[..., None]
    if a.ndim != 3 or a.shape[2] != channels:
        wanted = "a grey image (H, W) or a colour image (H, W, 3)" if channels == 1 else f"an image (H, W, {channels})"
        raise DataError(f"{name}: shape {np.shape(array)}; give {wanted}")
    if not np.isfinite(a).all() or a.min() < 0 or a.max() > 1:
        raise DataError(f"{name}: values from {a.min():g} to {a.max():g}; images must lie in [0, 1]")
    return torch.from_numpy(np.ascontiguousarray(a.transpose(2, 0, 1), dtype=np.float32))[None]


def load_images(data: Any, held_out: bool | None = False, channels: int = 1) -> list[Tensor]:
    """Training images, with `held_out` the ones never trained on, with None both.

    "skimage" is the built-in split; of a folder, or of the images in an HDF5 file, every tenth one (at least one) is
    held out; a list of arrays is taken as it is. Every dataset of an HDF5 file is an image (H, W) or a stack of images
    (N, H, W), for several `channels` (N, H, W, channels).
    """
    if isinstance(data, str) and data == "skimage":
        test: tuple[str, ...] = SKIMAGE_TEST
        training: tuple[str, ...] = SKIMAGE_TRAIN
        if channels > 1:
            test, training = COLOUR_TEST, tuple(name for name in SKIMAGE_TRAIN if name not in COLOUR_TEST)
        return skimage_images({True: test, False: training, None: training + test}[held_out], channels)
    if isinstance(data, (str, Path)) and Path(data).suffix.lower() in _HDF5:
        stored = _stored(Path(data), channels)
        return [image for i, image in enumerate(stored) if held_out in (None, i % 10 == 0)]
    if isinstance(data, (str, Path)):
        folder = Path(data)
        inside = folder.iterdir() if folder.is_dir() else ()
        files = sorted(p for p in inside if p.suffix.lower() in _SUFFIXES and p.is_file())
        if len(files) < 2:
            raise DataError(
                f"data {str(data)!r}: not 'skimage', no HDF5 file ({', '.join(_HDF5)}) and no folder with at least two "
                f"images ({', '.join(_SUFFIXES)})"
            )
        return [as_image(_read(p), p.name, channels) for i, p in enumerate(files) if held_out in (None, i % 10 == 0)]
    if not isinstance(data, (Sequence, np.ndarray, Tensor)):
        raise DataError(
            f"data of type {type(data).__name__}; give 'skimage', a folder, an HDF5 file or a list of images"
        )
    images = list(data)
    if not images:
        raise DataError("data: an empty list; give at least one image")
    found = [_given(image, f"image {k}", channels) for k, image in enumerate(images)]
    return found


def _read(path: Path) -> Any:
    from skimage.io import imread

    try:
        return imread(path)
    except (OSError, ValueError, SyntaxError) as error:  # those of the readers of damaged files
        raise DataError(f"{path}: cannot be read as an image ({str(error).splitlines()[0]}); replace it") from None


def _given(image: Any, name: str, channels: int) -> Tensor:
    if not (isinstance(image, Tensor) and image.dim() == 4):
        return as_image(image, name, channels)
    if image.shape[:2] != (1, channels):
        raise DataError(f"{name}: shape {tuple(image.shape)}; give tensors (1, {channels}, H, W), a channel per field")
    return as_image(image[0].movedim(0, -1), name, channels)


def _stored(path: Path, channels: int) -> list[Tensor]:
    """The images of an HDF5 file, dataset by dataset in the order of their names."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"data {str(path)!r}: HDF5 files are read by h5py; pip install h5py") from None
    found: list[Tensor] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            single = item.ndim == 2 + (channels > 1)
            images = [item[...]] if single else item
            if not single and item.ndim != 3 + (channels > 1):
                raise DataError(f"{path.name}/{name}: shape {item.shape}; give images or stacks of images")
            found.extend(as_image(image, f"{path.name}/{name}", channels) for image in images)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except OSError as error:
        raise DataError(f"data {str(path)!r}: no HDF5 file: {error}") from None
    if len(found) < 2:
        raise DataError(f"data {str(path)!r}: {len(found)} images; give at least two")
    return found


class Patches:
    """Clean and noisy patches (batch, channels, patch, patch), flipped and turned at random, for any step.

    `sigma` is the noise, or the lowest and the highest, between which every patch has its own.
    """

    def __init__(
        self, images: Sequence[Tensor], patch: int, batch: int, sigma: float | Sequence[float], seed: int
    ) -> None:
        small = [tuple(i.shape[2:]) for i in images if min(i.shape[2:]) < patch]
        if small:
            raise DataError(f"patch = {patch} is larger than an image of size {small[0]}; lower patch")
        self.images, self.patch, self.batch, self.sigma, self.seed = list(images), patch, batch, sigma, seed
        self._area = torch.tensor([float(i[0, 0].numel()) for i in images])

    def draw(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """(noisy, clean, σ) of one step, σ at every pixel, (batch, 1, patch, patch)."""
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
        return clean + sigma * noise, clean, sigma.expand_as(clean[:, :1])


def add_noise(image: Tensor, sigma: float, seed: int) -> Tensor:
    """The image with Gaussian noise of standard deviation σ, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return image + sigma * torch.randn(image.shape, generator=generator)
