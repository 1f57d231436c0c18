"""The energy of a gradient flow, discretised so that f is minus its gradient.

    E(u) = Σ_c κ_c Σ ½Ψ_c((K_c u)²) + Σ V(u),      Ψ' = g,  V' = −r

The sums are over the closed domain with weight ½ on the mirror planes and the volume of a cell, so E approximates the
integral; a diffusivity that couples several directions takes Ψ of the averages of the squared differences (see
discretise.py). E is known in closed form where Ψ is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import networkx as nx
import numpy as np
import sympy as sp
from sympy.integrals.manualintegrate import manualintegrate

from . import ops
from .discretise import DiscreteFlux, DiscreteMixed, SemiDiscrete
from .fields import Data
from .graph import Builder, Value
from .reference import Reference
from .schemes.forward_euler import ForwardEuler

_s = sp.Symbol("s", real=True)
_q = sp.Symbol("q", nonnegative=True)


def why_no_energy(system: SemiDiscrete) -> str:
    """Why f is no gradient; empty where it is one."""
    if any(axis.shift and not axis.periodic for axis in system.ends):
        return "no energy is computed of staggered fields between walls"
    if system.open:
        return "no energy is known beside Neumann and Robin conditions"
    if system.problem.timed:
        return "the energy would change with the time that the equation reads"
    if system.asymmetry:
        return f"f is not the gradient of an energy: {system.asymmetry}"
    return ""


def energy_graph(system: SemiDiscrete) -> nx.DiGraph | None:
    """E as a graph with one output, a number per sample; None where f is no gradient or Ψ has no closed form."""
    if why_no_energy(system):
        return None
    builder = Builder(system.axes)
    f = system.right_hand_side(builder)
    u = system.state(builder)
    names = {**f.data, **system.components(builder, u)}
    total: list[tuple[sp.Expr, str]] = []
    seen = set()
    for flux in system.fluxes:
        term = flux.term
        own, operator = term.slots[term.own]
        if flux.bank is not None:
            density = _bank_density(system, builder, flux, u, names)
            if density is None:
                return None
            total.append((term.kappa, density))
            continue
        if flux.local:
            Phi = term.flux.xreplace({own: _s})
            density = _antiderivative(Phi, _s)
            if density is None:
                return None
            (s,) = system.differences(builder, u, flux)[own]
            e = system._pointwise(builder, density, names, {_s: s}, f"energy_{system._subscript(operator)}")
            total.append((term.kappa, e))
            continue
        values = system.differences(builder, u, flux)
        if term.linear:  # a coefficient alone
            a = system._pointwise(builder, term.diffusivity, names, {}, "g")
            square = ops.Flux(_q * _s**2 / 2, (_q, _s), "e")
            for K, s in zip(flux.own, values[own], strict=True):
                mean = system._average(builder, a, K.target, K.axes, back=True)
                total.append((term.kappa, builder.add(square, mean, s, hint="energy")))
            continue
        read = zip(term.fields, (str(o) for _, o in term.slots), strict=True)
        key = (term.diffusivity, term.kappa, tuple(sorted(read)))
        if key in seen:  # the fluxes of one energy share it
            continue
        seen.add(key)
        g, nodal = system.averaged(builder, flux, values)
        if len(nodal) != 1:
            return None
        ((q, name),) = nodal.items()
        assert g is not None
        Psi = _antiderivative(g.xreplace({q: _q}), _q)
        if Psi is None:
            return None
        total.append((term.kappa, system._pointwise(builder, Psi / 2, names, {_q: name}, "energy")))
    met: list[DiscreteMixed] = []
    for m in system.mixed:
        ends = {(m.term.component, m.term.outer), (m.term.of, m.term.inner)}
        if all(ends != {(n.term.component, n.term.outer), (n.term.of, n.term.inner)} for n in met):
            met.append(m)
            total.append(system.coupling(builder, m, u, names))
    if system.problem.coupled:
        return None
    for field, r in zip(system.problem.unknowns, system.problem.reactions, strict=True):
        if r == 0:
            continue
        V = _antiderivative(-r.xreplace({field: _s}), _s)
        if V is None:
            return None
        e = system._pointwise(builder, V.xreplace({_s: field}), names, {}, "potential")
        total.append((sp.S.One, e))
    if not total:
        return None
    volume = math.prod((axis.spacing for axis in system.axes), start=system.axes[0].spacing ** 0)
    h = sp.Rational(volume.numerator, volume.denominator)
    sums = [
        (h * kappa, builder.add(ops.Integral(builder.graph.nodes[e]["place"].location), e, hint="{0}_sum"))
        for kappa, e in total
    ]
    E = builder.value(ops.Combination(tuple(c for c, _ in sums)), *(n for _, n in sums), hint="total")
    return builder.finish(E.name)


def _bank_density(
    system: SemiDiscrete, builder: Builder, flux: DiscreteFlux, u: Value, names: dict[sp.Expr, str]
) -> str | None:
    """Σ_c ½Ψ((K_c u)²), or ½Ψ(Σ_c (K_c u)²)."""
    assert flux.bank is not None
    v = system.filtered(builder, u, flux)
    if flux.joint:
        g, nodal = system.squared_channels(builder, flux, v)
        ((q, name),) = nodal.items()
        Psi = _antiderivative(g.xreplace({q: _q}), _q)
        return None if Psi is None else system._pointwise(builder, Psi / 2, names, {_q: name}, "energy")
    density = _antiderivative(flux.term.flux.xreplace({flux.term.slots[0][0]: _s}), _s)
    if density is None:
        return None
    e = system._pointwise(builder, density, names, {_s: v}, "energy")
    return builder.add(ops.ChannelSum(), e, hint="{0}_channels")


@lru_cache(maxsize=256)
def _antiderivative(e: sp.Expr, s: sp.Symbol) -> sp.Expr | None:
    """∫₀ˢ e in closed form, checked by differentiation; None if there is none."""
    terms = sp.Add.make_args(sp.expand_mul(e))
    if len(terms) > 1:
        parts = [_antiderivative(term, s) for term in terms]
        return None if any(p is None for p in parts) else sp.Add(*parts)
    kinked = _clamped(e, s)
    if kinked is None and e.has(sp.Max, sp.Min, sp.Abs, sp.Piecewise, sp.Heaviside, sp.sign):
        return None
    found = kinked if kinked is not None else _chain_rule(e, s)
    if found is None and _many_roots(e, s):
        return None
    if found is None:
        found = manualintegrate(e, s)
    if found.has(sp.Integral, sp.Piecewise) or found.has(sp.I):
        return None
    at_zero = found.xreplace({s: sp.S.Zero}) if s in found.free_symbols else found
    if not at_zero.is_finite or at_zero.is_real is False:
        return None
    found = found - at_zero
    others = sorted({*(e.free_symbols - {s}), *e.atoms(Data)}, key=str)
    for k, point in enumerate((0.3, 1.7, 11.0)):
        values = {o: sp.Float(0.5 + 0.1 * k + 0.05 * i) for i, o in enumerate(others)}
        values[s] = sp.Float(point)
        error = (sp.diff(found, s) - e).xreplace(values)
        value = found.xreplace(values)
        if not error.is_number or not value.is_real or abs(error) > 1e-9 * (1 + abs(e.xreplace(values))):
            return None
    return found


def _many_roots(e: sp.Expr, s: sp.Symbol) -> bool:
    """Is it rational, with an irreducible denominator of so many roots, in s² where it is odd, that its integral is a
    sum over them? Sympy may search for that for minutes."""
    numerator, denominator = sp.fraction(sp.together(e))
    if not (numerator.is_polynomial(s) and denominator.is_polynomial(s) and denominator.has(s)):
        return False
    odd = sp.expand(e.xreplace({s: -s}) + e) == 0
    _, factors = sp.factor_list(denominator, s)
    return any(sp.degree(factor, s) > (6 if odd else 4) for factor, _ in factors)


def _chain_rule(e: sp.Expr, s: sp.Symbol) -> sp.Expr | None:
    """∫ of c·b'·bᵃ or c·b'·eᵇ, b a function of s, as diffusivities and their fluxes mostly are."""
    factors = sp.Mul.make_args(e)
    outer = [f for f in factors if f.has(s) and f.as_base_exp()[0] != s]
    if len(outer) != 1:
        return None
    base, a = outer[0].as_base_exp()
    if isinstance(outer[0], sp.exp):
        b, integral = outer[0].exp, outer[0]
    elif a.is_number:
        b, at_zero = base, base.xreplace({s: sp.S.Zero})
        if a == -1 and at_zero == 0:
            return None
        integral = sp.log(sp.expand(b / at_zero)) if a == -1 else b ** (a + 1) / (a + 1)
    else:
        return None
    c = sp.cancel(sp.Mul(*(f for f in factors if f is not outer[0])) / sp.diff(b, s))
    return None if c.has(s) else c * integral


def _clamped(e: sp.Expr, s: sp.Symbol) -> sp.Expr | None:
    """∫₀ˢ of k/√m with m = max(1, s/c), or of ks/√m with m = max(1, s²/c): Huber's diffusivity and flux."""
    if len(maxima := e.atoms(sp.Max)) != 1:
        return None
    (m,) = maxima
    (z,) = [a for a in m.args if a != 1] if len(m.args) == 2 and 1 in m.args else [sp.nan]
    for power in (1, 2):
        k, c = sp.cancel(e * sp.sqrt(m) / s ** (power - 1)), sp.cancel(s**power / z)
        if not (k.has(s, sp.Max) or c.has(s) or c is sp.nan):
            return k / power * (s**power - c * (m - 1) + 2 * c * (sp.sqrt(m) - 1))
    return None


def energy_of(system: SemiDiscrete, values: Mapping[str, float]) -> Callable[..., np.ndarray] | None:
    """E as a function of arrays: `energy(u, **data)` has shape (B,)."""
    graph = energy_graph(system)
    if graph is None:
        return None
    reference = Reference(system, ForwardEuler(1), 1.0, values)
    return lambda u, **data: reference.evaluate(graph, u, **data)
