"""What a denoiser is worth: PSNR and SSIM (torchmetrics, data range 1), and ms per megapixel."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .data import add_noise


@dataclass(frozen=True)
class Score:
    """Means over the images: PSNR in dB, SSIM, milliseconds per megapixel."""

    psnr: float
    ssim: float
    ms_per_megapixel: float


def psnr(output: Tensor, clean: Tensor) -> float:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(output, clean, data_range=1.0))


@torch.no_grad()
def score(denoise: Callable[[Tensor], Tensor], images: Sequence[Tensor], sigma: float, seed: int = 0) -> Score:
    """Denoise noisy copies of the images (noise seeds seed, seed + 1, …) and compare with the clean ones."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    values, similar, seconds, pixels = [], [], 0.0, 0
    for i, clean in enumerate(images):
        noisy = add_noise(clean, sigma, seed + i)
        started = time.perf_counter()
        output = denoise(noisy).clamp(0, 1)
        seconds += time.perf_counter() - started
        pixels += clean[0, 0].numel()
        values.append(psnr(output, clean))
        similar.append(float(structural_similarity_index_measure(output, clean, data_range=1.0)))
    n = len(images)
    return Score(sum(values) / n, sum(similar) / n, seconds * 1e3 / (pixels / 1e6))
