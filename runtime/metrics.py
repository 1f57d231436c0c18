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


def self_ensemble(denoise: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The mean of what a denoiser makes of an image in its eight turns and flips, each turned back: u ↦ ⅛ Σ_S S⁻¹D(Su).

    It commutes with turns and flips, and where D lets no norm or no distance grow, neither does the mean (Timofte et
    al., doi:10.1109/CVPR.2016.206). It costs eight times as much.
    """

    def mean(u: Tensor) -> Tensor:
        outputs = []
        for turns in range(4):
            turned = denoise(torch.rot90(u, turns, (2, 3)))
            flipped = denoise(torch.rot90(u, turns, (2, 3)).flip(3)).flip(3)
            outputs.append(torch.rot90(turned + flipped, -turns, (2, 3)))
        return torch.stack(outputs).sum(0) / 8

    return mean


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
