"""One self-contained HTML page: the PDE, the stencils, the graph drawn, the stability table, the code."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import networkx as nx
import numpy as np
import sympy as sp
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from ..compiler import notation
from ..compiler.bounds import own_stencils, radial, shown_law
from ..compiler.energy import energy_of
from ..compiler.fields import Data, Parameter, Reading, Unknown
from ..compiler.pointwise import evaluate
from ..compiler.reference import Reference
from ..templates import environment
from .lift import kernels_of, trained_values
from .load import write_atomic

if TYPE_CHECKING:
    from .net import Net

_COLOURS = {
    "input": "#dfe7f3",
    "stencil": "#cfe8cf",
    "adjoint stencil": "#f6d9b8",
    "filter bank": "#cfe8cf",
    "adjoint filter bank": "#f6d9b8",
    "channel sum": "#e4dcf5",
    "flux": "#f3c9d3",
    "combination": "#e4dcf5",
    "ghost ring": "#f4efc6",
    "solve": "#c9ecec",
    "smoother": "#d9d3c7",
    "restriction": "#c7d9d3",
    "prolongation": "#d3c7d9",
}


def write_report(net: Net, path: Path, module: Any = None) -> Path:
    """Write the page; with a trained `module` its certificate is shown beside the initial one."""
    compiled = net.compiled
    stencils = [
        {"label": label, "taps": [(str(tuple(i / 2 for i in j)), notation.show(w)) for j, w in K.taps().items()]}
        for label, K in own_stencils(compiled.system)
    ]
    page = (
        environment(html=True)
        .get_template("report/report.html.j2")
        .render(
            net=net,
            equation="; ".join(notation.show_equations(compiled.problem)),
            boundary=notation.show_boundary(compiled.problem),
            method=compiled.system.method,
            spacing=", ".join(f"{float(a.spacing):g}" for a in compiled.system.axes),
            stencils=list({s["label"]: s for s in stencils}.values()),
            graph=draw(net.graph),
            legend=_COLOURS,
            report=net.stability,
            certificate=None if module is None else module.certificate(),
            source=net.source,
            dump=net.dump(),
            energy=energy_plot(net),
            fluxes=flux_plots(net, module),
            filters=filter_plots(net, module),
        )
    )
    write_atomic(path, page)
    return path


def energies(net: Net) -> list[tuple[int, float]]:
    """(layer, E) along the initial network, from noise of amplitude one; empty where E has no closed form."""
    compiled = net.compiled
    if not isinstance(net.reference, Reference):
        return []
    energy = energy_of(compiled.system, {p.name: p.value for p in compiled.problem.parameters})
    if energy is None:
        return []
    shape = {1: (64,), 2: (20, 20), 3: (8, 8, 8)}[compiled.problem.dimension]
    u = np.random.default_rng(0).uniform(-1, 1, (1, net.compiled.system.width, *shape))
    ranges = {str(f.func): getattr(f.func, "bounds", None) or (0, 0) for f in compiled.problem.data}
    data = {name: np.full((1, 1, *shape), (low + high) / 2) for name, (low, high) in ranges.items()}
    layers, cycle = net.scheme.layers, net.scheme.cycle
    count = min(5 if net.scheme.structure.solves else 12, layers // cycle)
    found = [(0, float(energy(u, **data)[0]))]
    with np.errstate(all="ignore"):
        for k in dict.fromkeys(round(layers // cycle * i / count) * cycle for i in range(1, count + 1)):
            found.append((k, float(energy(net.reference.states(u, k, **data)[0], **data)[0])))
    return found


def energy_plot(net: Net) -> str:
    """The energy over the layers as SVG; empty where there is none."""
    found = energies(net)
    if not found:
        return ""
    figure = Figure(figsize=(5, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*found, strict=True), "o-", ms=3)
    axes.set(xlabel="layer", ylabel="E(u)")
    return _svg(figure)


def _svg(figure: Figure) -> str:
    with io.StringIO() as text, rc_context({"svg.hashsalt": "pdeloom"}):  # the same report twice is the same file
        figure.savefig(text, format="svg", metadata={"Date": None})
        return text.getvalue()[text.getvalue().index("<svg") :]


def flux_plots(net: Net, module: Any = None) -> list[tuple[str, str]]:
    """Every nonlinear flux Φ(s), as (g in words, SVG): the initial one dashed, those of a trained module by layer and
    channel."""
    system, found = net.compiled.system, dict[str, str]()
    s = sp.Symbol("s", real=True)
    initial = {p.name: p.value for p in net.compiled.problem.parameters}
    every = [] if module is None else trained_values(net, module)
    for flux in system.fluxes:
        term = flux.term
        e = term.flux.xreplace({term.slots[term.own][0]: s})
        if not term.local and term.diffusivity is not None:
            g, _, _ = radial(term.diffusivity, [slot for slot, _ in term.slots], s)
            e = None if g is None else g * s
        if term.linear or e is None or e.atoms(Data, Unknown):
            continue
        data = [p for p in e.free_symbols if isinstance(p, Reading)]
        initial |= {p.name: p.value for p in data}  # in the middle of their bounds
        reach = 4 * max((p.value for p in e.free_symbols if isinstance(p, Parameter)), default=1.0)
        points = np.linspace(-reach, reach, 201)
        figure = Figure(figsize=(5, 2.8), layout="constrained")
        axes = figure.subplots()
        for k, values in enumerate(every):
            colour = colormaps["viridis"](k / max(1, len(every) - 1))
            channels = max((len(v) for v in values.values() if isinstance(v, list)), default=1)
            for c in range(channels):
                here = {p.name: v[c] if isinstance(v, list) else v for p, v in values.items()}
                label = f"layer {k}" if c == 0 and k in (0, len(every) - 1) else None
                axes.plot(points, evaluate(e, {s: points}, initial | here), color=colour, lw=0.8, label=label)
        axes.plot(points, evaluate(e, {s: points}, initial) + 0 * points, "k--", lw=1, label="initial")
        axes.set(xlabel="s", ylabel="Φ(s)")
        axes.legend(fontsize=8)
        found[shown_law(system, flux)] = _svg(figure)
    return list(found.items())


def filter_plots(net: Net, module: Any = None) -> list[tuple[str, str]]:
    """The filters of banks in one and two dimensions, as (what, SVG): of the first and of the last layer."""
    found = []
    for bank in net.compiled.system.banks:
        if bank.dimension == 3:
            continue
        trained = module is not None and getattr(net.compiled.training, "stencils", False)
        layers = net.scheme.layers if trained else 1
        for k in dict.fromkeys((0, layers - 1)):
            kernels = bank.kernels if module is None else kernels_of(module, bank.label, k)
            columns = min(16, len(kernels))
            rows = -(-len(kernels) // columns)
            figure = Figure(figsize=(0.6 * columns, 0.6 * rows))
            for axes, kernel in itertools.zip_longest(figure.subplots(rows, columns, squeeze=False).flat, kernels):
                axes.axis("off")
                if kernel is not None:
                    size = abs(kernel).max() or 1.0
                    axes.imshow(
                        np.concatenate([np.atleast_2d(k) for k in kernel]), cmap="coolwarm", vmin=-size, vmax=size
                    )
            found.append((f"{bank.label}, layer {k}" if module is not None else bank.label, _svg(figure)))
    return found


def draw(graph: nx.DiGraph) -> str:
    """The graph as SVG, layer by layer from the state on top to the new state at the bottom."""
    layers = [sorted(layer, key=list(graph).index) for layer in nx.topological_generations(graph)]
    width, height, gap_x, gap_y = 150, 40, 20, 34
    columns = max(map(len, layers))
    total = columns * (width + gap_x) + 3 * gap_x
    place = {}
    order: dict[str, float] = {}
    for row, layer in enumerate(layers):
        layer.sort(key=lambda n: sum(order[a] for a in graph.predecessors(n)) / max(1, graph.in_degree(n)))
        for i, name in enumerate(layer):
            x = total / 2 + (i - (len(layer) - 1) / 2) * (width + gap_x)
            order[name], place[name] = x, (x, gap_y + row * (height + gap_y))
    bottom = len(layers) * (height + gap_y) + gap_y
    size = f'viewBox="0 0 {total:.0f} {bottom}" width="{min(total, 900):.0f}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>']
    for a, b in graph.edges:
        (x1, y1), (x2, y2) = place[a], place[b]
        y1 += height
        aside = (width / 2 + 16) * (1 if x1 > total / 2 else -1) if y2 - y1 > gap_y else 0  # beside the boxes between
        bend = max((y2 - y1) / 2, gap_y) if not aside else gap_y
        curve = (
            f"M{x1:.0f} {y1:.0f} C{x1 + aside:.0f} {y1 + bend:.0f} {x2 + aside:.0f} {y2 - bend:.0f} {x2:.0f} {y2:.0f}"
        )
        parts.append(f'<path d="{curve}" fill="none" stroke="#999"/>')
    for name, (x, y) in place.items():
        kind = graph.nodes[name]["op"].kind
        box = f'x="{x - width / 2:.0f}" y="{y}" width="{width}" height="{height}" rx="6"'
        parts.append(f'<rect {box} fill="{_COLOURS.get(kind, "#eee")}" stroke="#666"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 17}" text-anchor="middle" font-size="13">{name}</text>')
        parts.append(f'<text x="{x:.0f}" y="{y + 32}" text-anchor="middle" font-size="10" fill="#555">{kind}</text>')
    return "\n".join([*parts, "</svg>"])
