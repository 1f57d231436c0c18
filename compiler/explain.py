"""Which network a scheme is, and which part of the network each term of the scheme is."""

from __future__ import annotations

from . import notation
from .discretise import SemiDiscrete
from .implicit import Plan
from .schemes import Scheme
from .stability import own_stencils


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
    width = max(len(block) for block, _ in rows)
    lines = [f"{block.ljust(width)}   {term}" for block, term in rows]
    lines.insert(1, "-" * width + "   " + "-" * max(len(term) for _, term in rows))
    article = "an" if scheme.architecture.startswith("RNN") else "a"
    return "\n".join([f"{name} is {article} {scheme.architecture}: {scheme.formula}", scheme.explain(), "", *lines])


def _skips(system: SemiDiscrete, scheme: Scheme) -> list[tuple[str, str]]:
    u = str(system.problem.unknown.func)
    carries = "the old state, input of the recurrence" if scheme.structure.solves else "skip connection: the term u^k"
    rows = [(u, carries)]
    rows += [(u + "_old" * i, f"long skip: the term u^{{k−{i}}}") for i in range(1, scheme.memory + 1)]
    rows += [(coefficient, f"the coefficient {coefficient}_k of layer k") for coefficient in scheme.schedule()]
    return rows + ([(scheme.relaxation, f"the relaxation {scheme.relaxation}")] if scheme.relaxation else [])


def _blocks(system: SemiDiscrete) -> list[tuple[str, str]]:
    axes, u = tuple(axis.name for axis in system.axes), str(system.problem.unknown.func)
    labels = dict.fromkeys(label for label, _ in own_stencils(system))
    rows, activations = [], []
    for flux in system.fluxes:
        term, g = flux.term, flux.term.diffusivity
        for i in range(len(flux.own)):
            D = notation.show_operator(term.operator, axes)
            rows.append((f"K_{system._subscript(term.operator, i)}", f"convolution: the derivative {D}"))
        shown = notation.show_term(term.flux if g is None or term.linear else g, term.slots, axes, u)
        kind = "the flux Φ" if g is None or term.linear else "the flux Φ(s) = g·s with the diffusivity g"
        activations.append(("flux", f"activation: {kind} = {shown}"))
    rows = [*dict.fromkeys(rows), *dict.fromkeys(activations)]
    rows += [(f"{label}*", "transposed convolution, same weights: minus the divergence") for label in labels]
    if system.problem.pointwise != 0:
        rows.append(("reaction", f"pointwise: {notation.show(system.problem.pointwise)}"))
    return rows
