"""D replaced by a bank of filters: u_t = −κ Σ_c K_cᵀ Φ(K_c u), the diffusion whose derivatives are learned.

All flux terms with one factor κ and one diffusivity become one bank. It starts as the finite differences of their
operators D and further filters, or as filters of another kind, with ‖K‖ ≤ ‖D‖.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import sympy as sp

from .bank import Bank, Family, cosines, parity_parts, symmetries
from .bounds import radial
from .discretise import DiscreteFlux, SemiDiscrete
from .errors import BoundaryError, DiscretisationError, UnsupportedTermError, strict, suggest
from .fields import Reading
from .grid import Axis, Grid, NoFlux, Periodic, axes_of
from .problem import FluxTerm, Problem, explicit_symbols
from .stencil import Stencil, number

S = sp.Symbol("s", real=True)
INITIAL = ("derivatives", "dct", "orthonormal")
_TINY = 1e-12


@dataclass(frozen=True)
class FilterBank:
    """A bank of `channels` filters of `size` taps per axis (odd) in place of D in every flux term −D*Φ(D u).

    In a system whose fields share one law all filters read all fields, as the channels of a colour image; otherwise
    every field has its own bank.

    Args:
        channels: C; at least as many as D has components, twice that for symmetric filters.
        size: 3, 5, 7, …
        init: "derivatives": D itself padded with zeros, and means along an axis of the filters of the DCT; "dct": the
            filters of the DCT, lowest frequencies first; "orthonormal": random ones. ‖K‖ ≤ ‖D‖. Where the first two run
            out of filters, random combinations of even or odd ones follow.
        joint: the diffusivity reads Σ_d (K_d u)² and is the same for all channels, instead of (K_c u)² in each; or
            "learned": that of every channel reads a mixture Σ_d w_cd (K_d u)² of its own, with trained weights w > 0.
            Norms are as stable as without, and nothing is the gradient of an energy any more.
        symmetric: True: every filter is even or odd along each axis. "reflected": filters have any shape and bring
            their reflections, 2^d channels with the weights of one, of the flux as well. "turned": and these in every
            order of the axes, which have one spacing; 2^d·d! channels with the weights of one. The net commutes with
            reflections, "turned" with quarter turns as well where all axes have the same boundary, and the bound on
            ‖K‖ about mirror planes is sharp instead of up to 2^d times too large (docs/filters.md).
        zero_mean: filters vanish on constants.
        own_fluxes: every channel has its own trained parameters of the flux, but for a factor of all of it, such as
            the weight of a single term: filters have that.
        seed: of what is random.

    Axes are periodic or without flux. Raises `DiscretisationError` for sizes and numbers that do not fit.
    """

    channels: int
    size: int = 5
    init: str = "derivatives"
    joint: bool | str = False
    symmetric: bool | str = False
    zero_mean: bool = True
    own_fluxes: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (("channels", 1, 4096), ("size", 3, 31), ("seed", 0, 2**32 - 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
                raise DiscretisationError(f"FilterBank({name}={value!r}): give a whole number from {low} to {high}")
            object.__setattr__(self, name, int(value))
        if self.size % 2 == 0:
            raise DiscretisationError(
                f"FilterBank(size={self.size}): an odd number of taps keeps values on the nodes; use {self.size + 1}"
            )
        if self.init not in INITIAL:
            raise DiscretisationError(f"FilterBank(init={self.init!r}): {suggest(str(self.init), list(INITIAL))}")
        for name in ("joint", "symmetric", "zero_mean", "own_fluxes"):
            value = getattr(self, name)
            words = {"joint": ("learned",), "symmetric": ("reflected", "turned")}.get(name, ())
            if not isinstance(value, bool) and value not in words:
                other = "".join(f', or "{word}"' for word in words)
                raise DiscretisationError(f"FilterBank({name}={value!r}): True or False{other}")
        if self.reflected and self.init == "derivatives":
            raise DiscretisationError(
                f"FilterBank(symmetric={self.symmetric!r}, init='derivatives'): D and its reflections are no longer D; "
                f"use init='dct' or 'orthonormal'"
            )
        if self.joint is True and self.own_fluxes:
            raise DiscretisationError(
                "FilterBank(joint=True, own_fluxes=True): a joint diffusivity is one for all; joint='learned' has one "
                "for every channel"
            )

    @property
    def turned(self) -> bool:
        return self.symmetric == "turned"

    @property
    def reflected(self) -> bool:
        return self.symmetric == "reflected" or self.turned

    def discretise(self, problem: Problem, grid: Grid) -> SemiDiscrete:
        if problem.boundaries:
            raise BoundaryError(
                "FilterBank: boundary conditions that differ between fields are those of differences; give all fields "
                "NoFlux() or Periodic(), or use FiniteDifference"
            )
        for x, pair in zip(problem.coordinates, problem.boundary, strict=True):
            other = next((b for b in pair if not isinstance(b, (NoFlux, Periodic))), None)
            if other is not None:
                raise BoundaryError(
                    f"FilterBank: boundary {other!r} of {x}: filters of several taps have no such wall; use "
                    f"NoFlux() or Periodic(), or FiniteDifference"
                )
        if problem.transport or problem.laws:
            cure = "FiniteDifference" if problem.staggered else "FiniteVolume"
            raise UnsupportedTermError(f"FilterBank: a first derivative outside a flux is no filter; use {cure}")
        if any(explicit_symbols(term.flux) & problem.places for term in problem.fluxes):
            raise UnsupportedTermError(
                "FilterBank: a flux that reads coordinates or time has no filters; use FiniteDifference"
            )
        if problem.mixed or problem.features:
            raise UnsupportedTermError(
                "FilterBank: diffusion tensors, cross-diffusion and smoothed values have no filters; use "
                "FiniteDifference"
            )
        copies = symmetries(problem.dimension, self.turned)
        if self.reflected and self.channels % copies:
            raise DiscretisationError(
                f"FilterBank(channels={self.channels}, symmetric={self.symmetric!r}): every filter has {copies} "
                f"images, itself among them; give a multiple of that"
            )
        axes = axes_of(tuple(map(str, problem.coordinates)), problem.boundary, grid)
        if self.turned and len({axis.spacing for axis in axes}) > 1:
            raise DiscretisationError(
                f"FilterBank(symmetric='turned'): the spacings {', '.join(str(axis.spacing) for axis in axes)} differ, "
                f"so that a turned filter is another operator; use one spacing, or symmetric='reflected'"
            )
        values = {p.name: p.value for p in problem.parameters}
        groups: dict[Any, list[FluxTerm]] = {}
        for term in problem.fluxes:
            groups.setdefault(_law(term), []).append(term)
        if not groups:
            raise UnsupportedTermError("FilterBank: the equation has no flux term −D*Φ(D u), so that there is no D")
        fluxes = []
        width = len(problem.unknowns)
        split = []
        for law, terms in groups.items():  # one bank for all fields, or one for each
            of = sorted({t.component for t in terms})
            parts = [terms] if len(of) == width else [[t for t in terms if t.component == i] for i in of]
            split += [(law, part, width if len(of) == width else 1) for part in parts]
        most = max(inputs for _, _, inputs in split)
        for i, ((kappa, weight, flux, g), terms, inputs) in enumerate(split, 1):
            label = "K" if len(split) == 1 else f"K{i}"
            per_field = [[t for t in terms if inputs == 1 or t.component == j] for j in range(inputs)]
            stencils = [[Stencil.build(dict(t.operator), axes) for t in own] for own in per_field]
            bank = replace(self._bank(label, stencils, axes, values), most=most)
            if self.joint and g is None:
                raise UnsupportedTermError(
                    f"FilterBank(joint={self.joint!r}): the flux {flux} has no diffusivity g with Φ = g·s"
                )
            term = FluxTerm((), kappa, flux, g, ((S, ()),), 0, weight, of=(terms[0].component,))
            self._check_own(problem, term)
            fluxes.append(DiscreteFlux(term, (), local=term.local and not self.joint, bank=bank))
        kind = f"{self.symmetric} filters" if self.reflected else "even or odd filters" if self.symmetric else "filters"
        mixed = ", ‖K u‖_c² = Σ_d mix_cd (K_d u)²" * (self.joint == "learned")
        method = f"a bank of {self.channels} {kind} of {self.size} taps per axis{mixed}"
        return SemiDiscrete(problem, grid, axes, tuple(fluxes), (), method)

    def _check_own(self, problem: Problem, term: FluxTerm) -> None:
        """A parameter of which every channel has its own cannot stand outside the flux."""
        elsewhere = term.kappa.free_symbols.union(*(r.free_symbols for r in problem.reactions))
        both = sorted(term.flux.free_symbols & elsewhere & set(problem.parameters), key=str)
        if self.own_fluxes and both:
            raise DiscretisationError(
                f"FilterBank(own_fluxes=True): {both[0]} also stands outside the flux, where it cannot be a number per "
                f"channel; use two parameters"
            )

    # --- the filters to start from ------------------------------------------------------------------------

    def _bank(
        self, label: str, stencils: list[list[Stencil]], axes: tuple[Axis, ...], values: dict[str, float]
    ) -> Bank:
        """`stencils` stand for D, field by field."""
        every = [np.stack([self._padded(K, values) for K in own]) for own in stencils]
        inputs = len(every)
        if any(self.zero_mean and (abs(_sums(D)) > 1e-9 * _sums(abs(D))).any() for D in every):
            raise DiscretisationError("FilterBank: D has a term without derivative; use zero_mean=False")
        if self.init == "derivatives":  # every filter reads one field
            blocks = []
            for i, D in enumerate(every):
                own = self._with_derivatives(D, self.channels // inputs + (i < self.channels % inputs))
                blocks.append(np.zeros((len(own), inputs, *own.shape[1:])))
                blocks[-1][:, i] = own
            return self._grouped(label, np.concatenate(blocks), axes)
        line = cosines(inputs, (None,))  # and across the fields the vectors of the DCT, their mean first
        kernels = np.stack([np.multiply.outer(c, k) for k in self._cosines([self.size] * len(axes)) for c in line])
        if self.init == "orthonormal":
            rng, sets = np.random.default_rng(self.seed), math.ceil(self.channels / len(kernels))
            kernels = np.concatenate([self._mixed(kernels, rng, pure=self.symmetric is True) for _ in range(sets)])
        kernels = self._enough(kernels, self.channels // (symmetries(len(axes), self.turned) if self.reflected else 1))
        if self.reflected and self.init == "dct":
            kernels = kernels + self._others(kernels)
        bank = self._grouped(label, kernels, axes)
        size = max(_energy(D).max() for D in every)
        return self._grouped(label, kernels * math.sqrt(size / bank.squared_norm()), axes)

    def _padded(self, K: Stencil, values: dict[str, float]) -> np.ndarray:
        """The taps of a finite difference on the window; the value at the face i + ½ is stored at the node i."""
        kernel = np.zeros((self.size,) * K.dimension)
        for offset, w in K.taps().items():
            at = tuple(self.size // 2 + (j + half) // 2 for j, half in zip(offset, K.target, strict=True))
            if not all(0 <= i < self.size for i in at):
                raise DiscretisationError(f"FilterBank(size={self.size}): D reaches further; use a larger size")
            kernel[at] = number(w, values)
        return kernel

    def _with_derivatives(self, D: np.ndarray, channels: int) -> np.ndarray:
        """D and as much of further filters as ‖K‖ ≤ ‖D‖ allows.

        For D = ∇ that is |D̂|² = Σ_a (4/h²) sin²(ξ_a/2). A mean along an axis has the symbol cos(ξ_a/2), so that means
        of filters fill the gap to ‖D‖² up to a factor.
        """
        symbol = _energy(D)
        if self.symmetric:
            parts = parity_parts(D, range(D.ndim - 1)).swapaxes(0, 1).reshape(-1, *D.shape[1:])
            D = parts[abs(parts).max(tuple(range(1, D.ndim))) > _TINY * abs(D).max()]
        if channels < len(D):
            of = f", {channels} of which read one field" if channels < self.channels else ""
            raise DiscretisationError(
                f"FilterBank(channels={self.channels}){of}: D has {len(D)} components"
                f"{', even and odd ones' if self.symmetric else ''}; use at least as many channels"
            )
        if channels == len(D):
            return D
        d = D.ndim - 1
        means = []
        for a in range(d):
            short = self._cosines([self.size - (b == a) for b in range(d)])
            pad = [[(0, 0)] + [(int(b == a) * i, int(b == a) * (1 - i)) for b in range(d)] for i in (0, 1)]
            means.append((np.pad(short, pad[0]) + np.pad(short, pad[1])) / 2)
        further = np.stack([k for ks in itertools.zip_longest(*means) for k in ks if k is not None])
        further = self._enough(further, channels - len(D))
        energy, gap = _energy(further), symbol.max() - symbol
        seen = energy > 1e-6 * energy.max()
        share = float((gap[seen] / energy[seen]).min())
        if share < 1e-3 * symbol.max() / energy.max():  # D is largest where the means do not vanish
            D, share = D * math.sqrt(0.5), 0.5 * symbol.max() / energy.max()
        return np.concatenate([D, further * math.sqrt(0.99 * share)])

    def _cosines(self, shape: list[int]) -> np.ndarray:
        """The filters of the DCT on a window, lowest frequencies first."""
        order = sorted(itertools.product(*map(range, shape)), key=lambda m: (sum(m), max(m), m))
        order = order[1:] if self.zero_mean else order
        if self.turned and self.init == "dct":  # the others are these, turned
            order = [m for m in order if m == tuple(sorted(m))]
        lines = [cosines(n, (None,)) for n in shape]
        found = [np.ones(()) for _ in order]
        for a, line in enumerate(lines):
            found = [f[..., None] * line[m[a]] for f, m in zip(found, order, strict=True)]
        return np.stack(found)

    def _mixed(self, kernels: np.ndarray, rng: np.random.Generator, pure: bool) -> np.ndarray:
        """Random orthonormal combinations of all filters, or of those of one parity."""
        groups: dict[Any, list[np.ndarray]] = {}
        for k in kernels:
            key = tuple(bool((k * np.flip(k, a)).sum() > 0) for a in range(k.ndim)) if pure else ()
            groups.setdefault(key, []).append(k)
        turns = [np.tensordot(np.linalg.qr(rng.standard_normal((len(g), len(g))))[0], g, 1) for g in groups.values()]
        return np.stack([k for turn in itertools.zip_longest(*turns) for k in turn if k is not None])

    def _others(self, kernels: np.ndarray) -> np.ndarray:
        """Random filters of half the norm, low frequencies most: an even or odd filter, which its reflections would
        only repeat, would never become another, for its gradient is even or odd as well."""
        inputs, d = kernels.shape[1], kernels.ndim - 2
        frequencies = np.indices((self.size,) * d).sum(0).ravel()[self.zero_mean :]
        weights = np.random.default_rng(self.seed).standard_normal((len(kernels), inputs, len(frequencies)))
        weights /= np.maximum(frequencies, 1)
        weights *= 0.5 / np.linalg.norm(weights, axis=(1, 2), keepdims=True)
        basis = cosines(self.size, (None,) * d)[self.zero_mean :]
        others: np.ndarray = weights @ basis
        return others.reshape(kernels.shape)

    def _enough(self, kernels: np.ndarray, count: int) -> np.ndarray:
        """The first filters, or all of them and random combinations within every parity."""
        rng = np.random.default_rng(self.seed)
        found = [kernels]
        while sum(map(len, found)) < count:
            found.append(self._mixed(kernels, rng, pure=True))
        return np.concatenate(found)[:count]

    def _grouped(self, label: str, kernels: np.ndarray, axes: tuple[Axis, ...]) -> Bank:
        """The bank of these filters as weights of the cosines."""
        inputs, families = kernels.shape[1], []
        taps = kernels.reshape(len(kernels), inputs, -1)
        for parities in itertools.product((0, 1) if self.symmetric is True else (None,), repeat=len(axes)):
            bare = self.zero_mean and 1 not in parities
            weights = taps @ cosines(self.size, parities)[bare:].T
            weights[abs(weights) < _TINY * abs(taps).max()] = 0
            members = weights[np.linalg.norm(weights, axis=(1, 2)) > 0.5 * np.linalg.norm(taps, axis=(1, 2))]
            if len(members):
                families.append(Family(parities, bare, tuple(tuple(map(float, w.ravel())) for w in members)))
        return Bank(
            label, self.size, axes, tuple(families), self.symmetric is True, self.reflected, self.turned,
            bool(self.joint), self.joint == "learned", self.own_fluxes, inputs, most=inputs,
        )  # fmt: skip


FilterBank.__init__ = strict(FilterBank.__init__)  # type: ignore[method-assign]


def _law(term: FluxTerm) -> tuple[sp.Expr, sp.Expr, sp.Expr, sp.Expr | None]:
    """κ, the weight, Φ(s) and g with Φ = g·s, of one variable s."""
    if term.local:
        own = term.slots[term.own][0]
        g = None if term.diffusivity is None else term.diffusivity.xreplace({own: S})
        return term.kappa, term.weight, term.flux.xreplace({own: S}), g
    g, others, weights = (
        (None, [], ()) if term.diffusivity is None else radial(term.diffusivity, [slot for slot, _ in term.slots], S)
    )
    if g is None or set(weights) - {1}:
        raise UnsupportedTermError(
            f"FilterBank: the flux {term.flux} is not g(|Du|²)·Du times data, so that it has no meaning for one filter "
            f"(data inside g need positive bounds)"
        )
    g = sp.Mul(g.xreplace({p: p.data for p in g.free_symbols if isinstance(p, Reading)}), *others)
    return term.kappa, term.weight, g * S, g


def _sums(kernels: np.ndarray) -> np.ndarray:
    total: np.ndarray = kernels.reshape(len(kernels), -1).sum(1)
    return total


def _energy(kernels: np.ndarray) -> np.ndarray:
    """Σ_c |k̂_c|² at 64 frequencies per axis, ξ = π among them."""
    d = kernels.ndim - 1
    total: np.ndarray = (abs(np.fft.fftn(kernels, s=(64,) * d, axes=range(1, d + 1))) ** 2).sum(0)
    return total
