"""K: u ↦ (Σ_i k_1i ⋆ u_i, …, Σ_i k_Ci ⋆ u_i), a bank of filters with its boundary treatment, its exact transpose and
its norm. It reads one field, or all fields of a system.

All filters have an odd number of taps per axis, so that values in and out lie on the nodes. They are combinations of
the cosines of the DCT-II on their window, as in trainable nonlinear reaction diffusion (Chen, Pock, IEEE Trans. Pattern
Anal. Mach. Intell. 39 (2017) 1256–1272, doi:10.1109/TPAMI.2016.2596743): without the constant they have mean zero, and
with cosines of one parity per axis they are even or odd. A reflected bank holds the 2^d reflections of every filter, a
turned one those in every order of the axes, which are its images under all 2^d·d! symmetries of the cube.

    K = C·P     P continues u beyond the boundary (its mirror image, or around), C correlates
    Kᵀ = PᵀCᵀ   Cᵀ spreads, Pᵀ adds what lies beyond the boundary to the nodes it came from

‖K‖² ≤ ρ = sup_ξ Σ_c |k̂_c(ξ)|², of several fields sup_ξ λ_max(Σ_c k̂_c(ξ)k̂_c(ξ)*), on periodic axes, and about mirror
planes if every filter is even or odd along those axes, or the bank is reflected; otherwise filters are split into such
parts, ‖Σ_p K_p u‖² ≤ Σ_p ‖K_p u‖²/w_p with Σ_p w_p = 1. ρ is found from samples of that trigonometric polynomial: see
runtime/norms.py for the proof.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from .grid import Axis

OTHERS = 0.1
"""The part of a learned mixture that starts as the mean of all channels; the rest is the channel itself."""

ROWS = 6
"""From so many inputs on, a convolution is fastest as it stands; with fewer, the rows of windows come as channels."""

Parities = tuple[int | None, ...]
"""Per axis even (0), odd (1), or both (None)."""


@lru_cache(maxsize=64)
def cosines(size: int, parities: Parities) -> np.ndarray:
    """The orthonormal filters ∏_a cos(π m_a(n_a + ½)/size) of these parities, one per row, taps flattened; if even ones
    are among them along every axis, the first is constant."""
    n = np.arange(size)
    line = np.cos(math.pi / size * n[:, None] * (n + 0.5)) * math.sqrt(2 / size)
    line[0] /= math.sqrt(2)
    basis: np.ndarray = np.ones((1, 1))
    for parity in parities:
        basis = np.kron(basis, line if parity is None else line[parity::2])
    return basis


def parity_parts(kernels: np.ndarray, axes: Iterable[int]) -> np.ndarray:
    """The parts of kernels (C, taps) that are even or odd along each of the axes: (parts, C, taps)."""
    parts = kernels[None]
    for a in axes:
        flipped = np.flip(parts, 2 + a)
        parts = np.concatenate([(parts + flipped) / 2, (parts - flipped) / 2])
    return parts


def symmetries(dimension: int, turned: bool) -> int:
    """How many there are: the reflections, or all of the cube."""
    return int(2**dimension) * (math.factorial(dimension) if turned else 1)


def images(kernels: np.ndarray, dimension: int, turned: bool = False) -> np.ndarray:
    """Each of the kernels (C, …) followed by its reflections about the last `dimension` axes, and if `turned` by those
    in all other orders of these axes: (copies·C, …)."""
    first = kernels.ndim - dimension
    orders = list(itertools.permutations(range(first, kernels.ndim))) if turned else [range(first, kernels.ndim)]
    kept = np.stack([kernels.transpose(*range(first), *order) for order in orders], 1)
    kept = kept.reshape(-1, *kernels.shape[1:])[:, None]
    for a in range(dimension):
        kept = np.stack([kept, np.flip(kept, a - dimension)], 2).reshape(len(kept), -1, *kernels.shape[1:])
    return kept.reshape(-1, *kernels.shape[1:])


def quotients(dimension: int, turned: bool) -> np.ndarray:
    """Which symmetry g⁻¹h is, (copies, copies), in the order of `images`."""
    taps = images(np.arange(3**dimension).reshape(1, *(3,) * dimension), dimension, turned)
    taps = taps.reshape(len(taps), -1)
    found: np.ndarray = (taps[:, taps][:, :, None] == taps).all(-1).argmax(0)  # g after the sought one is h
    return found


def samples(size: int, dimension: int, learned: bool, inputs: int = 1) -> tuple[int, float]:
    """How many frequencies per axis find ρ within ¼ %, or 4 % of filters of several fields that are trained or of three
    axes, whose eigenvalues take longer, and by what the largest sample is to be multiplied."""
    several = inputs > 1 and (learned or dimension == 3)
    count = 2 ** math.ceil(math.log2((8 if several else 32) * (size - 1) * dimension))
    if not learned and inputs == 1:
        count = max(count, 2 ** (14, 10, 7)[dimension - 1])
    return count, 1 / math.cos(dimension * (size - 1) * math.pi / count / 2) ** 2


@dataclass(frozen=True)
class Family:
    """Filters that are combinations of the same cosines, with `start` weights (filters, inputs · cosines); `bare` says
    that the constant is left out."""

    parities: Parities
    bare: bool
    start: tuple[tuple[float, ...], ...]

    @property
    def name(self) -> str:
        """even_odd, …; empty where both are among them."""
        return "_".join(("even", "odd")[p] for p in self.parities if p is not None)


@dataclass(frozen=True)
class Bank:
    """The filters K; `label` names them in the graph and the emitted code."""

    label: str
    size: int
    axes: tuple[Axis, ...]
    families: tuple[Family, ...]
    symmetric: bool = False
    """Is every filter even or odd along each axis, whatever its weights?"""
    reflected: bool = False
    """Does every filter bring its reflections about all axes, with the same weights and the same flux? Channels are
    ordered by filters, and then as `images` says."""
    turned: bool = False
    """And if `reflected`, these in every order of the axes?"""
    joint: bool = False
    """Does the diffusivity read all channels, Σ_d (K_d u)²?"""
    mixed: bool = False
    """Does the diffusivity of every channel read a mixture Σ_d w_cd (K_d u)² of its own, with trained weights?"""
    own_fluxes: bool = False
    """Does every channel have its own weights of the flux?"""
    inputs: int = 1
    """How many fields it reads: one, or all of a system."""
    most: int = 1
    """The most inputs of all banks of the network, which share the code that bounds their norms."""

    @property
    def dimension(self) -> int:
        return len(self.axes)

    @property
    def invariant(self) -> bool:
        """Is Σ_c |(K u)_c|² reflected with u, whatever the weights?"""
        return self.symmetric or self.reflected

    @property
    def copies(self) -> int:
        """How many channels share the weights of a filter and of its flux."""
        return symmetries(self.dimension, self.turned) if self.reflected else 1

    @property
    def filters(self) -> int:
        """How many filters have weights of their own."""
        return sum(len(f.start) for f in self.families)

    @property
    def channels(self) -> int:
        return self.filters * self.copies

    @property
    def thin(self) -> bool:
        """Does it read so few fields that the rows of its windows are better channels than they are? Not of one axis:
        its rows are single taps."""
        return self.inputs < ROWS and self.dimension > 1

    @property
    def radius(self) -> int:
        return self.size // 2

    @cached_property
    def kernels(self) -> np.ndarray:
        """(C, inputs, size, …)."""
        rows = []
        for f in self.families:
            basis = cosines(self.size, f.parities)[f.bare :]
            rows.append(np.array(f.start).reshape(-1, self.inputs, len(basis)) @ basis)
        kernels = np.concatenate(rows).reshape(-1, self.inputs, *(self.size,) * self.dimension)
        return images(kernels, self.dimension, self.turned) if self.reflected else kernels

    @property
    def mixture(self) -> np.ndarray:
        """The weights w that a mixture starts with, (C, C): every channel reads itself, and a little of all."""
        C, own = self.channels, self.filters
        found: np.ndarray = (1 - OTHERS) * np.eye(C)[:: self.copies] + OTHERS / C
        if self.reflected:  # what an image of a filter reads are the images of what the filter reads
            found = found.reshape(own, own, -1)[..., quotients(self.dimension, self.turned)].swapaxes(1, 2)
        return found.reshape(C, C)

    def mirrored(self, learned: bool) -> tuple[int, ...]:
        """The axes along which filters have to be split into their even and odd parts: those with mirror planes, unless
        all filters are even or odd there, about a node, or odd about a face, where the value on the plane vanishes; or
        the bank is reflected: on the periodic grid that mirror images make of this one, Σ_c |(K u)_c|² is then the same
        on every image."""
        axes = tuple(a for a, axis in enumerate(self.axes) if not axis.periodic)
        if self.invariant or (not learned and all(_pure(k, 1 + a) for k in self.kernels for a in axes)):
            return ()
        return axes

    @lru_cache(maxsize=64)  # noqa: B019 (asked again by every claim)
    def squared_norm(self, learned: bool = False) -> float:
        """A bound on ‖K‖² for every grid size; `learned`: by what holds for all weights."""
        parts = parity_parts(self.kernels, [1 + a for a in self.mirrored(learned)])
        window = tuple(range(3, parts.ndim))
        size = np.sqrt((parts**2).sum((2, *window), keepdims=True))
        scale = np.sqrt(np.divide(size.sum(0), size, out=np.zeros_like(size), where=size > 0))
        count, excess = samples(self.size, self.dimension, learned, self.most)
        double, d = (2 * self.size - 1,) * self.dimension, self.dimension
        if self.most > 1:
            k = np.fft.fftn(parts * scale, s=double, axes=window)
            r = np.fft.ifftn(np.einsum("pci...,pcj...->ij...", k, k.conj()), axes=range(2, 2 + d)).real
            r = np.pad(np.fft.fftshift(r, range(2, 2 + d)), [(0, 0)] * 2 + [(0, count - double[0])] * d)
            r = np.roll(r, [1 - self.size] * d, range(2, 2 + d))  # back to where the correlation of lag 0 comes first
            symbol = np.fft.rfftn(r, axes=range(2, 2 + d)).reshape(self.inputs, self.inputs, -1)
            return float(np.linalg.eigvalsh(np.moveaxis(symbol, 2, 0)).max() * excess)
        energy = (abs(np.fft.rfftn(parts * scale, s=double, axes=window)) ** 2).sum((0, 1, 2))
        autocorrelation = np.fft.fftshift(np.fft.irfftn(energy, s=double, axes=range(d)))
        return float(abs(np.fft.rfftn(autocorrelation, s=(count,) * d, axes=range(d))).max() * excess)

    def apply(self, u: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """K u: (B, inputs, *grid) to (B, C, *grid)."""
        for a, index in enumerate(self._folded(shape)):
            u = np.take(u, index, axis=2 + a)
        taps = tuple(range(-self.dimension, 0))
        windows = np.lib.stride_tricks.sliding_window_view(u, (self.size,) * self.dimension, axis=taps)
        return np.moveaxis(np.tensordot(windows, self.kernels, ((1, *taps), (1, *taps))), -1, 1)

    def adjoint(self, v: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Kᵀv: (B, C, *grid) to (B, inputs, *grid)."""
        total = np.zeros((len(v), self.inputs, *(n + 2 * self.radius for n in shape)))
        spread: Any = np.tensordot(self.kernels, v, (0, 1)).swapaxes(0, 1 + self.dimension)  # (B, *taps, inputs, *grid)
        for tap in itertools.product(range(self.size), repeat=self.dimension):
            read = (slice(i, i + n) for i, n in zip(tap, shape, strict=True))
            total[:, :, *read] += spread[:, *tap]
        for a, (index, n) in enumerate(zip(self._folded(shape), shape, strict=True)):
            moved = np.moveaxis(total, 2 + a, 0)
            folded = np.zeros((n, *moved.shape[1:]))
            np.add.at(folded, index, moved)
            total = np.moveaxis(folded, 0, 2 + a)
        return total

    def _folded(self, shape: tuple[int, ...]) -> list[np.ndarray]:
        """Per axis, which node every node of the ringed array is the image of."""
        found = []
        for axis, n in zip(self.axes, shape, strict=True):
            ringed = 2 * np.arange(-self.radius, n + self.radius)
            found.append(axis.fold(ringed, n, axis.parity)[0] // 2)
        return found


def _pure(k: np.ndarray, a: int) -> bool:
    """Is a filter even or odd along an axis about its middle, or odd about the face behind it?"""
    tiny = 1e-12 * abs(k).max()
    flipped = np.flip(k, a)
    behind = np.roll(flipped, 1, a)  # i + ½ is where the middle was
    first = np.take(k, 0, a)
    odd = abs(first).max() <= tiny and abs(k + behind).max() <= tiny
    return bool(odd or abs(k - flipped).max() <= tiny or abs(k + flipped).max() <= tiny)
