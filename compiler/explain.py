"""Which network a scheme is, and which part of the network each term of the scheme is."""

from __future__ import annotations

import sympy as sp

from . import notation
from .bounds import labels, shown_law
from .discretise import SemiDiscrete
from .elliptic import Elliptic
from .implicit import Plan
from .schemes import Scheme
from .schemes.multigrid import SMOOTHERS


def explain(name: str, system: SemiDiscrete, scheme: Scheme, plan: Plan | None) -> str:
    """A sentence on the architecture and a table block ↔ term, one line per block of the emitted network."""
    rows = [("in the network", "in the scheme"), *_skips(system, scheme), *_blocks(system)]
    rows += [
        ("tau", "the step size τ"),
        ("extend(u)", f"the boundary condition: {notation.show_boundary(system.problem)}"),
    ]
    if plan is not None:
        weights = "tied weights, input u^k, hidden state the iterate v"
        rows.append(("solve(residual, …)", f"the implicit equation by {plan.method}: {weights}"))
    article = "an" if scheme.architecture.startswith("RNN") else "a"
    return "\n".join(
        [f"{name} is {article} {scheme.architecture}: {scheme.formula}", scheme.explain(), "", *_table(rows)]
    )


def explain_cycle(name: str, problem: Elliptic) -> str:
    """The same for the U-net of a multigrid cycle."""
    scheme = problem.scheme
    names = tuple(axis.name for axis in problem.axes)
    rows = [
        ("in the network", "in the method"),
        (
            "levels",
            "the grids, each coarser than the one before; semi-coarsening first" if problem.semi else "the grids",
        ),
        ("smooth", f"{scheme.pre} sweeps going down and {scheme.post} going up: {SMOOTHERS[scheme.smoother]}"),
        ("residual", "b − A(u)"),
        ("restrict, the downsampling", f"R: {problem.restriction}"),
        ("prolong, the upsampling", f"P: {scheme.prolongation} interpolation"),
        ("u across a level, the skip", "the smoothed state, to which the correction is added"),
        ("b across a level, the skip", "the right-hand side, which the smoother reads again"),
        (
            "direct, the bottleneck",
            "the coarsest grid, solved " + ("by elimination" if problem.linear else "by Newton"),
        ),
        ("extend", f"the boundary condition: {notation.show_boundary(problem.problem)}"),
    ]
    for flux in problem.system.fluxes:
        D = notation.show_operator(flux.term.operator, names)
        rows.append((f"operator: {D}", "a derivative in A, at the spacing of the level"))
    kind = "correction scheme" if problem.linear else "full approximation scheme"
    return "\n".join([f"{name} is a U-net: {scheme.formula} ({kind})", scheme.explain(), "", *_table(rows)])


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(block) for block, _ in rows)
    head, *lines = [f"{block.ljust(width)}   {term}" for block, term in dict.fromkeys(rows)]
    return [head, "-" * width + "   " + "-" * max(len(term) for _, term in rows), *lines]


def _skips(system: SemiDiscrete, scheme: Scheme) -> list[tuple[str, str]]:
    u = system.problem.state
    carries = "the old state, input of the recurrence" if scheme.structure.solves else "skip connection: the term u^k"
    rows = [(u, carries)]
    rows += [(u + "_old" * i, f"long skip: the term u^{{k−{i}}}") for i in range(1, scheme.memory + 1)]
    rows += [(f"{u}_start", "the state its cycle started from, which the diffusivities read")] * scheme.anchored
    rows += [(coefficient, f"the coefficient {coefficient}_k of layer k") for coefficient in scheme.schedule()]
    return rows + ([(scheme.relaxation, f"the relaxation {scheme.relaxation}")] if scheme.relaxation else [])


def _blocks(system: SemiDiscrete) -> list[tuple[str, str]]:
    axes = tuple(axis.name for axis in system.axes)
    convolutions, activations = {}, {}
    for flux in system.fluxes:
        term = flux.term
        for label in labels(system, flux):
            derivative = f"the derivative {notation.show_operator(term.operator, axes)}"
            filters = f"{flux.bank.channels} filters in place of D" if flux.bank else derivative
            convolutions[label] = f"convolution: {filters}"
        nonlinear = term.diffusivity is not None and not term.linear
        kind = "the flux Φ(s) = g·s with the diffusivity g" if nonlinear else "the flux Φ"
        shown = shown_law(system, flux, term.diffusivity if nonlinear else term.flux)
        activations[f"activation: {kind} = {shown}"] = "flux"
    rows = [*convolutions.items(), *((block, text) for text, block in activations.items())]
    rows += [(f"{label}*", "transposed convolution, same weights: minus the divergence") for label in convolutions]
    for m in system.mixed:
        inner = notation.show_operator(((m.term.inner, sp.S.One),), axes)
        u, c = system.problem.unknowns[m.term.of].func, notation.show(m.term.coefficient)
        outer = notation.show_operator(((m.term.outer, sp.S.One),), axes)
        rows.append((f"coupling of {outer} and {inner} {u}", f"their entry of the diffusion tensor: {c}"))
    for feature, e in system.problem.features:
        rows.append((str(feature.func), f"convolutions with Gaussians: {notation.show(e)}"))
    for v in system.transports:
        name, kind = axes[v.axis] * v.term.order, "transport" if v.term.order == 1 else "dispersion"
        rows.append(
            (f"T_{name}", f"convolution: {kind}, the centred derivative ∂{name}, times {notation.show(v.speed)}")
        )
    for discrete in system.laws:
        name, F = discrete.label, notation.show(discrete.law.flux)
        if discrete.law.advective:
            rows.append((name, f"differences against the wind, times the speed {F}"))
            continue
        rows.append((name, f"activation of both neighbours: the numerical flux of F = {F} through the faces"))
        rows.append((name.replace("F", "inflow", 1), f"convolution: −∂{discrete.axis.name} F"))
    for u, r in zip(system.problem.unknowns, system.problem.reactions, strict=True):
        name = "reaction" + f"_{u.func}" * (system.width > 1)
        rows += [(name, f"pointwise: {notation.show(r)}")] if r != 0 else []
    return rows
