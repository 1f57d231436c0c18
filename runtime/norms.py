"""Bounds on the norm of a filter bank K: u ↦ (Σ_i k_oi ⋆ u_i)_o, proved, differentiable, for every grid size.

With the autocorrelation A_ij = Σ_o k_oi ⋆ k_oj the squared norm on a periodic grid is at most

    ρ = sup_ξ λ_max(Â(ξ)),     and so it is for zero padding, a compression of the periodic operator.

ρ is found from samples: if a real function of exponential type σ lies between 0 and ρ and attains ρ, then at a distance
δ it is at least ρcos²(σδ/2) (Duffin, Schaeffer, Bull. AMS 43 (1937) 554–556, doi:10.1090/S0002-9904-1937-06602-9), so

    ρ ≤ max_samples λ_max(Â) / cos²(½ Σ_a n_a π/M_a)

for M_a samples along axis a and kernels of n_a + 1 taps.

About mirror planes ρ is *not* a bound. There the kernel is split into its 2^d parts that are even or odd along each
axis; each part alone obeys ρ, for it restricts a periodic operator to a symmetric subspace, and with any weights
Σ_p w_op = 1

    ‖Σ_p K_op u‖² ≤ Σ_p ‖K_op u‖² / w_op,

so that the bank of all parts k_op/√w_op has a ρ that bounds ‖K‖². An output of one part has w = 1: for kernels even or
odd along every axis the bound is ρ itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..compiler.errors import DataError, suggest

BOUNDARIES = ("periodic", "zero", "even", "odd")
"""Wrapping around; zeros; half-sample even extension (no flux); odd extension (Dirichlet)."""


def bank_norm(weight: Tensor, boundary: str = "periodic", samples: int | None = None) -> Tensor:
    """An upper bound on the operator norm ‖K‖ of a filter bank, for every grid size.

    Args:
        weight: kernels (C_out, C_in, *taps) in one to three dimensions, as `torch.nn.functional.conv2d` takes them.
        boundary: "periodic", "zero" padding, or the extension beyond the grid, "even" (no flux) or "odd" (Dirichlet).
        samples: frequencies per axis; by default enough for an excess of 0.5 % over the supremum.

    Returns:
        A scalar tensor, differentiable in the weights, never below the norm (computed in double precision and rounded
        upwards to the dtype of the weights).

    Raises:
        DataError: for another shape, dtype or boundary, for weights that are not finite, or for too few samples.
    """
    _check(weight, boundary)
    k = weight.double()
    if boundary in ("even", "odd"):
        k = _weighted_parts(k, samples)
    rounding = 1 + 2 * torch.finfo(weight.dtype).eps
    return (_supremum(k, samples)[0].sqrt() * rounding).to(weight.dtype)


def parity_parts(weight: Tensor) -> Tensor:
    """The 2^d parts of every kernel that are even or odd along each axis: (2^d, C_out, C_in, *taps), their sum the
    kernel."""
    parts = weight[None]
    for a in range(3, weight.dim() + 1):
        flipped = parts.flip(a)
        parts = torch.cat(((parts + flipped) / 2, (parts - flipped) / 2))
    return parts


def _check(weight: Any, boundary: str) -> None:
    if boundary not in BOUNDARIES:
        raise DataError(f"bank_norm(boundary={boundary!r}): {suggest(str(boundary), BOUNDARIES)}")
    kernels = isinstance(weight, Tensor) and 3 <= weight.dim() <= 5 and weight.is_floating_point() and weight.numel()
    if not kernels:
        shape = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise DataError(f"bank_norm(weight={shape}): give real kernels (C_out, C_in, *taps) in 1 to 3 dimensions")
    if not bool(weight.isfinite().all()):
        raise DataError("bank_norm: the weights are not finite")


def _supremum(k: Tensor, samples: int | None) -> tuple[Tensor, list[float], Tensor | None]:
    """ρ from above, the sampled frequency at which λ_max is largest, and the eigenvector there."""
    convolve = (torch.conv1d, torch.conv2d, torch.conv3d)[k.dim() - 3]
    n = [s - 1 for s in k.shape[2:]]
    swapped = k.transpose(0, 1)
    A = convolve(swapped, swapped, padding=n)  # A_ij(m) = Σ_o Σ_x k_oi(x + m) k_oj(x)
    counts = [_count(m, len(n), samples) for m in n]
    reach = sum(m * math.pi / c for m, c in zip(n, counts, strict=True))
    if not reach < math.pi:
        raise DataError(f"bank_norm(samples={samples}): too few for kernels of {[m + 1 for m in n]} taps; leave it out")
    with torch.no_grad():
        frequency = _largest(A, n, counts)
    P = _at_frequency(A, frequency)  # λ_max at that frequency alone carries the gradient
    if A.shape[0] == 1:
        top, vector = P[0, 0].real, None
    else:
        values, vectors = torch.linalg.eigh(P)
        top, vector = values[-1], vectors[:, -1]
    return top.clamp(min=0) / math.cos(reach / 2) ** 2, frequency, vector


def _at_frequency(k: Tensor, frequency: list[float]) -> Tensor:
    """Σ_x k(x) exp(−i⟨ξ, x⟩), x counted from the centre, over the last axes of k."""
    d = len(frequency)
    angle = k.new_zeros((1,) * d)
    for a, w in enumerate(frequency):
        size = k.shape[a - d]
        x = (torch.arange(size, dtype=k.dtype, device=k.device) - (size - 1) / 2) * w
        angle = angle + x.reshape((-1,) + (1,) * (d - 1 - a))
    dims = tuple(range(-d, 0))
    return torch.complex((k * angle.cos()).sum(dims), -(k * angle.sin()).sum(dims))


def _count(n: int, dimension: int, samples: int | None) -> int:
    """1/cos²(½ Σ nπ/M) ≤ 1.01 asks for M ≥ 16nd."""
    if n == 0:
        return 1
    return samples if samples is not None else 2 ** math.ceil(math.log2(16 * n * dimension))


def _largest(A: Tensor, n: list[int], counts: list[int]) -> list[float]:
    """The sampled frequency with the largest λ_max."""
    dims = tuple(range(2, A.dim()))
    padded = A.new_zeros((*A.shape[:2], *counts))
    padded[(slice(None), slice(None), *(slice(None, 2 * m + 1) for m in n))] = A
    P = torch.fft.rfftn(padded.roll([-m for m in n], dims), dim=dims)
    if A.shape[0] == 1:
        index = int(P[0, 0].real.flatten().argmax())
    else:
        flat = P.flatten(2).permute(2, 0, 1)
        frobenius = torch.linalg.matrix_norm(flat)
        best = float(torch.linalg.eigvalsh(flat[int(frobenius.argmax())])[-1])
        # λ_max ≤ ‖·‖_F: no other frequency can be larger
        candidates = (frobenius >= best * (1 - 1e-12)).nonzero().flatten()
        index = int(candidates[int(torch.linalg.eigvalsh(flat[candidates])[:, -1].argmax())])
    position = []
    for size in reversed(P.shape[2:]):
        position.append(index % size)
        index //= size
    return [2 * math.pi * j / c for j, c in zip(reversed(position), counts, strict=True)]


def _weighted_parts(k: Tensor, samples: int | None) -> Tensor:
    """All parts k_op/√w_op as one bank, with the best weights that a few steps find; they count as constants."""
    parts = parity_parts(k)

    def weighted(w: Tensor) -> Tensor:
        scale = torch.where(w > 0, w.clamp(min=1e-300).rsqrt(), 0)
        return (parts * scale.reshape(*w.shape, *(1,) * (k.dim() - 1))).flatten(0, 1)

    def shares(size: Tensor) -> Tensor:
        """Proportional to the sizes of the parts; only one that is zero has no share."""
        total = size.sum(0).clamp(min=1e-300)
        size = torch.where(present, size.maximum(1e-3 * total), 0)
        return size / size.sum(0).clamp(min=1e-300)

    coarse = samples or 2 ** math.ceil(math.log2(4 * max(2, *k.shape[2:]) * (k.dim() - 2)))

    with torch.no_grad():
        norms = parts.flatten(2).norm(dim=2)  # (2^d, C_out)
        present = norms > 0
        w = shares(norms)
        best, chosen = math.inf, w
        for _ in range(_STEPS if bool((present.sum(0) > 1).any()) else 0):
            value, frequency, vector = _supremum(weighted(w), coarse)
            if float(value) < best:
                best, chosen = float(value), w
            # with one frequency alone the best weights are proportional to the sizes of the parts there
            local = _at_frequency(parts, frequency)
            local = local[..., 0] if vector is None else local @ vector.conj()
            w = 0.7 * w + 0.3 * shares(local.abs())
    return weighted(chosen)


_STEPS = 8
