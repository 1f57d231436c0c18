"""The compiler: from a PDE to the source of the network that it is.

    problem   = canonical(pde)                      the equation, sorted into −κ D*Φ(D u) and r(u)
    system    = space.discretise(problem, grid)     du/dt = −Σ κ KᵀG(u)K u + r(u), every value located
    report    = analyse(system, scheme)             which stability holds, up to which τ
    graph     = scheme.step(f, u, τ)                the scheme, run on graph values
    stages    = optimise(graph)                     common subexpressions, flat sums, no dead code
    source    = emit(system, …, stages[-1])         torch, one block per step

`compile_pde` is these six lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _distribution_version
from typing import Any

import networkx as nx
import sympy as sp

from .discretise import FiniteDifference, SemiDiscrete
from .emit import TAU, Training, emit
from .errors import DeclarationError, SchemeError, suggest
from .fields import Parameter
from .graph import Builder
from .grid import Grid
from .nonlinearity import recognise
from .passes import optimise
from .problem import PDE, FluxTerm, Problem, canonical
from .reference import Reference
from .schemes import Scheme
from .stability import Report, analyse


def version() -> str:
    try:
        return _distribution_version("pdeloom")
    except PackageNotFoundError:
        return "unreleased"


@dataclass(frozen=True)
class Compiled:
    """What the compiler hands to the runtime."""

    name: str
    problem: Problem
    system: SemiDiscrete
    scheme: Scheme
    training: Training
    report: Report
    stages: tuple[tuple[str, nx.DiGraph], ...]
    source: str

    @property
    def graph(self) -> nx.DiGraph:
        return self.stages[-1][1]

    def reference(self) -> Reference:
        values = {p.name: p.value for p in self.problem.parameters}
        return Reference(self.system, self.scheme, self.report.tau, values)


def compile_pde(
    pde: PDE,
    grid: Grid,
    space: FiniteDifference,
    scheme: Scheme,
    trainable: Sequence[Any] = (),
    shared: bool = False,
    guarantee: str | None = None,
    unstable: str = "refuse",
) -> Compiled:
    """Compile; the arguments are those of `pdeloom.compile`."""
    problem = canonical(pde)
    _check_time_order(problem, scheme)
    system = space.discretise(problem, grid)
    training = _training(problem, trainable, shared)
    report = analyse(system, scheme, training.parameters, training.stencils, guarantee, allow=unstable == "allow")
    builder = Builder(system.axes)
    u = system.state(builder)
    f = system.right_hand_side(builder)
    stages = optimise(builder.finish(scheme.step(f, u, TAU).name))
    name = _class_name(problem, system)
    source = emit(system, scheme, stages[-1][1], report, training, name, version())
    return Compiled(name, problem, system, scheme, training, report, stages, source)


def _check_time_order(problem: Problem, scheme: Scheme) -> None:
    if problem.time_order not in scheme.time_orders:
        from .schemes import SCHEMES

        able = [name for name, cls in SCHEMES.items() if problem.time_order in cls.time_orders]
        raise SchemeError(
            f"{type(scheme).__name__} serves equations of order {scheme.time_orders} in time, this one has order "
            f"{problem.time_order}; schemes that can: {', '.join(able) or 'none yet'}"
        )


def _training(problem: Problem, trainable: Sequence[Any], shared: bool) -> Training:
    words, chosen = set(), set()
    for item in trainable if not isinstance(trainable, (str, Parameter)) else [trainable]:
        by_name = {p.name: p for p in problem.parameters}
        if isinstance(item, Parameter) and item in problem.parameters:
            chosen.add(item)
        elif str(item) in by_name:
            chosen.add(by_name[str(item)])
        elif item in ("tau", "stencil"):
            words.add(item)
        else:
            raise DeclarationError(f"trainable={item!r}: {suggest(str(item), [*by_name, 'tau', 'stencil'])}")
    return Training(frozenset(chosen), "stencil" in words, "tau" in words, shared)


def _class_name(problem: Problem, system: SemiDiscrete) -> str:
    """The PDE's own name, else that of its diffusivity: PeronaMalik2d."""
    pde = problem.pde
    if pde.name is not None:
        words = "".join(c if c.isalnum() else " " for c in pde.name).split()
        name = "".join(w[0].upper() + w[1:] for w in words)
        if not name.isidentifier():
            raise DeclarationError(f"PDE(name={pde.name!r}): not usable as a class name")
        return name
    known = {_recognised(flux.term, problem) for flux in system.fluxes}
    word = known.pop() if len(known) == 1 else "diffusion"
    return "".join(w.capitalize() for w in word.split("-")) + f"{problem.dimension}d"


def _recognised(term: FluxTerm, problem: Problem) -> str:
    squares = sp.Add(*(s**2 for s, _ in term.slots))
    name = None if term.diffusivity is None else recognise(term.diffusivity, squares, problem.parameters)
    return "heat" if name == "linear" else name or "diffusion"
