"""A network read back as a PDE: trained parameters in place of initial ones, stencils and filters by their moments.

A kernel with taps w_j at the offsets j h acts on smooth u as Σ_m M_m ∂^m, M_m = Σ_j w_j (jh)^m/m! (Long, Lu, Dong,
J. Comput. Phys. 399 (2019) 108925, doi:10.1016/j.jcp.2019.108925).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp

from .bounds import labels
from .discretise import DiscreteFlux, SemiDiscrete
from .fields import Parameter, d, dt
from .problem import Operator
from .stencil import Stencil, number

LONG = 16
"""Waves of so many nodes and longer are what operators of moments are compared on with taps."""


@dataclass
class Moments:
    """Reads taps as differential operators Σ M_m ∂^m with |m| ≤ order.

    `misfit` is the largest difference so far of a symbol Σ w_j e^{iξjh} to Σ M_m (iξ)^m, for waves of 16 nodes and
    longer, beside the largest value of that symbol for all waves.
    """

    order: int
    misfit: float = 0.0

    def of_stencil(self, K: Stencil, weights: list[float] | None, values: Mapping[str, float]) -> Operator:
        """What a stencil is, its orbits weighted anew where given."""
        if weights is None:
            taps = {j: number(w, values) for j, w in K.taps().items()}
        else:
            taps = {}
            for w, orbit in zip(weights, K.orbits(), strict=True):
                for j, sign in orbit.pattern:
                    taps[j] = taps.get(j, 0.0) + sign * w
        halves = np.array(list(taps)).reshape(len(taps), -1) / 2
        return self.of(halves, np.array(list(taps.values())), [float(axis.spacing) for axis in K.axes])

    def of(self, offsets: np.ndarray, weights: np.ndarray, h: list[float], tiny: float = 1e-12) -> Operator:
        """What taps at offsets (taps, axes), in spacings h, are; what is `tiny` beside the taps is rounding."""
        at, size = offsets * np.array(h), abs(weights).sum()
        found = []
        for m in itertools.product(range(self.order + 1), repeat=len(h)):
            if sum(m) > self.order:
                continue
            moment = float(weights @ np.prod(at**m, axis=1)) / math.prod(map(math.factorial, m))
            if abs(moment) > tiny * size * max(h) ** sum(m):
                found.append((m, sp.Float(moment, 15)))
        unit = np.stack(np.meshgrid(*[np.linspace(-np.pi, np.pi, 9)] * len(h), indexing="ij"), -1).reshape(-1, len(h))
        long = unit * 2 / LONG / np.array(h)
        largest = abs(np.exp(1j * unit @ offsets.T) @ weights).max()
        read = sum(float(M) * np.prod((1j * long) ** m, axis=1) for m, M in found)
        if largest > 0:
            misfit = abs(np.exp(1j * long @ at.T) @ weights - read).max() / largest
            self.misfit = max(self.misfit, float(misfit))
        return tuple(sorted(found, key=lambda item: (sum(item[0]), item[0])))


def lifted(
    system: SemiDiscrete,
    values: Mapping[Parameter, float | list[float]],
    stencils: Mapping[str, list[float]],
    banks: Mapping[str, tuple[np.ndarray, np.ndarray | None]],
    moments: Moments,
) -> tuple[sp.Eq, ...]:
    """The equations that a layer discretises, one for every field: its parameters (lists where every channel has its
    own), trained stencils, and the kernels of filter banks and what they mix, by label."""
    problem = system.problem
    numbers = {p: sp.Float(v, 15) for p, v in values.items() if not isinstance(v, list)}
    if not stencils and not banks:
        equations = problem.pde.equations
        return tuple(sp.Eq(e.lhs.xreplace(numbers), e.rhs.xreplace(numbers), evaluate=False) for e in equations)
    rights = list(problem.reactions)
    for carried in problem.transport:
        u, x = problem.unknowns[carried.of], problem.coordinates[carried.axis]
        rights[carried.component] -= carried.speed * d(u, x, carried.order)
    for law in problem.laws:
        u, x = problem.unknowns[law.component], problem.coordinates[law.axis]
        rights[law.component] -= law.flux * d(u, x) if law.advective else d(law.flux, x)
    for flux in system.fluxes:
        if flux.bank is not None:
            read = range(len(rights)) if flux.whole else [flux.term.component]
            fields = [problem.unknowns[i] for i in read]
            parts = _filtered(system, flux, fields, values, *banks[flux.bank.label], moments)
            for i, part in zip(read, parts, strict=True):
                rights[i] += part
            continue
        terms = (_term(system, flux, i, stencils, moments) for i in range(len(flux.own)))
        rights[flux.term.component] += sp.Add(*terms)
    by_name = {p.name for p in values}
    initial = {p: sp.Float(p.value, 15) for p in problem.parameters if p.name not in by_name}
    left = (dt(u, problem.time_order) for u in problem.unknowns)
    pairs = zip(left, rights, strict=True)
    return tuple(sp.Eq(moving, r.xreplace(numbers | initial), evaluate=False) for moving, r in pairs)


def _term(
    system: SemiDiscrete, flux: DiscreteFlux, i: int, stencils: Mapping[str, list[float]], moments: Moments
) -> sp.Expr:
    """−κ D*Φ(D u) with the operator that the i-th stencil of the term is."""
    problem, term = system.problem, flux.term
    x = problem.coordinates
    values = {p.name: p.value for p in problem.parameters}

    def read(K: Stencil, label: str) -> Operator:
        return moments.of_stencil(K, stencils.get(label), values)

    own = read(flux.own[i], labels(system, flux)[i])
    slots = {}
    for k, (s, operator) in enumerate(term.slots):
        label = f"K_{system._subscript(operator)}"
        u = problem.unknowns[term.fields[k]]
        slots[s] = _applied(own if k == term.own else read(flux.stencils[k][0], label), u, x)
    return -term.kappa * _applied(own, term.flux.xreplace(slots), x, adjoint=True)


def _filtered(
    system: SemiDiscrete,
    flux: DiscreteFlux,
    fields: Sequence[sp.Expr],
    values: Mapping[Parameter, float | list[float]],
    kernels: np.ndarray,
    mixture: np.ndarray | None,
    moments: Moments,
) -> list[sp.Expr]:
    """−κ Σ_c D_ci*Φ_c(Σ_j D_cj u_j) for every field i that a bank reads, D_ci the operator that the filter is."""
    problem, term = system.problem, flux.term
    x, (s, _) = problem.coordinates, term.slots[0]
    h = [float(axis.spacing) for axis in system.axes]
    offsets = np.indices(kernels.shape[2:]).reshape(len(h), -1).T - kernels.shape[-1] // 2
    operators = [[moments.of(offsets, k.ravel(), h, tiny=1e-6) for k in own] for own in kernels]  # single precision
    values_of = [sp.Add(*(_applied(D, u, x) for D, u in zip(own, fields, strict=True))) for own in operators]
    squares = [v**2 for v in values_of]
    totals = [sp.S.Zero for _ in fields]
    for c, (row, v) in enumerate(zip(operators, values_of, strict=True)):
        own = {p: sp.Float(given[c], 15) for p, given in values.items() if isinstance(given, list)}
        law = term.flux.xreplace(own).xreplace({s: v})
        if flux.joint and term.diffusivity is not None:
            weights = [sp.S.One] * len(squares) if mixture is None else [sp.Float(w, 15) for w in mixture[c]]
            total = sp.Add(*(w * q for w, q in zip(weights, squares, strict=True)))
            law = term.diffusivity.xreplace(own).xreplace({s: sp.sqrt(total)}) * v
        for i, D in enumerate(row):
            totals[i] -= term.kappa * _applied(D, law, x, adjoint=True)
    return totals


def _applied(operator: Operator, e: sp.Expr, x: Sequence[sp.Symbol], adjoint: bool = False) -> sp.Expr:
    """D e, or its formal adjoint."""
    parts = []
    for m, c in operator:
        part = e
        for axis, n in zip(x, m, strict=True):
            part = d(part, axis, n) if n else part
        parts.append((-1) ** sum(m) * c * part if adjoint else c * part)
    return sp.Add(*parts)
