"""Which method solves an implicit step, and why: the contract of `Solver` made concrete for one graph.

A residual v − … − τf(v) has the Jacobian J = I + τA', A' between the bounds of the stability report. So

    linear, neighbours along one axis      Thomas               exact
    linear, J symmetric, A' ≥ 0            conjugate gradients  ½√κ ln(2/tol) iterations, κ = 1 + τρ
    linear                                 BiCGStab(2)
    nonlinear                              Newton–Krylov        with one of the last two inside
    fixed point v ← v − R(v)               contracts iff τ·sup|Φ'|·‖K‖² < 1
    damped      v ← v − ωR(v)              contracts iff 0 < ωλ < 2 on the spectrum of J; best ω = 2/(2 + τρ)

What cannot work is refused with the bound and a method that would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx
import sympy as sp

from .discretise import SemiDiscrete
from .errors import SchemeError
from .grid import Axis
from .layout import offsets
from .ops import AdjointFilterBank, AdjointStencil, FilterBank, Solve, Stencil
from .schemes import Scheme
from .solve import TOLERANCES, Solver
from .stability import Report

_LONGEST = 200
"""No traced network unrolls more iterations than this."""


@dataclass(frozen=True)
class Plan:
    """A method that fits, and its constants.

    `inner` is the Krylov method inside Newton's and for the adjoint equation, `secant` the one for secant steps of
    Newton's method where the Jacobian may be indefinite, `dims` the axis of every Thomas solve; a traced network has
    `unrolled` iterations, and `unrolled_inner` in each of Newton's; `gain` = 1 + τρ is what rounding is magnified by.
    """

    solver: Solver
    method: str
    inner: str
    secant: str | None
    dims: dict[str, int] | None
    damping: float
    gain: float
    unrolled: int
    unrolled_inner: int


@dataclass(frozen=True)
class _Residual:
    """What is known of v − … − τf(v): bounds low ≤ J ≤ high on its Jacobian, where there are some."""

    linear: bool
    axes: dict[str, int | None]
    asymmetry: str
    tau: float
    spectrum: tuple[float, float] | None
    coupled: bool
    """Does it couple the fields of a system at one node?"""

    @property
    def low(self) -> float:
        return 1.0 if self.spectrum is None else 1 + self.tau * self.spectrum[0]

    @property
    def high(self) -> float:
        return 10.0 if self.spectrum is None else 1 + self.tau * self.spectrum[1]

    @property
    def definite(self) -> bool:
        return not self.asymmetry and self.spectrum is not None and self.spectrum[0] >= 0

    @property
    def tridiagonal(self) -> bool:
        return self.linear and not self.coupled and all(axis is not None for axis in self.axes.values())


def plan_solves(system: SemiDiscrete, scheme: Scheme, graph: nx.DiGraph, report: Report) -> Plan | None:
    """The plan of all solves in a graph; None if there are none.

    Raises `SchemeError` for a method that cannot solve this residual, and for solves that ask for different solvers.
    """
    solves = {name: node for name, node in graph.nodes.items() if isinstance(node["op"], Solve)}
    if not solves:
        return None
    solver, *others = dict.fromkeys(node["op"].solver for node in solves.values())
    if others:
        raise SchemeError(
            f"{type(scheme).__name__} solves with {solver} and with {others[0]}; give all solves one solver"
        )
    seen, operator = scheme.structured(system.problem.dimension), report.operator
    R = _Residual(
        linear=all(_linear(graph, node["args"]) for node in solves.values()),
        axes={name: _axis(graph, node["args"]) for name, node in solves.items()},
        asymmetry="" if seen.frozen and not (system.one_sided or system.transports) else operator.asymmetry,
        tau=_implicit_step(scheme, seen.implicit, report),
        spectrum=operator.frozen if seen.frozen else operator.jacobian,
        coupled=(system.problem.coupled and not seen.frozen)
        or any(term.of != term.component for term in system.problem.transport)
        or any(term.of != term.component for term in system.problem.mixed),
    )
    method = solver.method
    if method == "auto":
        linear = "thomas" if R.tridiagonal else "cg" if R.definite else "bicgstab"
        method = linear if R.linear else "newton-krylov"
    if method == "multigrid":
        if system.width > 1:
            raise SchemeError("solver=Multigrid(…) solves for one field, not for a system; use solver='auto'")
        if len(solves) > 1:
            raise SchemeError(
                f"solver=Multigrid(…) solves one system per step, and {type(scheme).__name__} has {len(solves)}; use "
                f"solver='auto'"
            )
        return Plan(
            solver, method, inner="cg", secant=None, dims=None, damping=1.0, gain=R.high, unrolled=0, unrolled_inner=0
        )
    _check(method, R)
    damping = _damping(solver, method, R)
    secants = method == "newton-krylov" and all(len(node["args"]) > 5 for node in solves.values())
    energy = operator.frozen is not None and operator.frozen[0] >= 0
    offset = len(system.axes)
    return Plan(
        solver=solver,
        method=method,
        inner="cg" if R.definite else "bicgstab",
        secant=("cg" if energy else "bicgstab") if secants and not R.linear else None,
        dims={name: a - offset for name, a in R.axes.items() if a is not None} if method == "thomas" else None,
        damping=damping,
        gain=R.high,
        unrolled=_iterations(solver, method, damping, R),
        unrolled_inner=_krylov_count(R, 1e-3),
    )


def _implicit_step(scheme: Scheme, factors: list[sp.Expr], report: Report) -> float:
    """The largest factor c of a residual v − … − c f(v), over all solves and all layers of a cycle."""
    known = {sp.Symbol("tau"): report.tau, **{sp.Symbol(name): value for name, value in report.own.items()}}
    layers = [{sp.Symbol(n): c for n, c in scheme.coefficients(k).items()} for k in range(scheme.cycle)]
    return max(float(c.xreplace(known | layer)) for c in factors for layer in layers)


def _check(method: str, R: _Residual) -> None:
    if method in ("cg", "bicgstab", "thomas") and not R.linear:
        raise SchemeError(
            f"solver={method!r} solves linear systems, and this residual is nonlinear; use solver='newton-krylov', or "
            f"the semi-implicit scheme, whose systems are linear"
        )
    if method == "thomas" and not R.tridiagonal:
        raise SchemeError(
            "solver='thomas' needs a residual that couples neighbours along one axis that is not periodic; use "
            "solver='cg', or split the axes with AOS or ADI"
        )
    if method == "cg" and not R.definite:
        unknown = "no bound on its spectrum is known" if R.spectrum is None else ""
        raise SchemeError(
            f"solver='cg' needs a symmetric positive definite operator, and this one is not known to be "
            f"({R.asymmetry or unknown or f'its spectrum reaches down to {R.low:.4g}'}); use solver='bicgstab' or "
            f"'newton-krylov'"
        )
    if method == "fixed-point":
        if R.spectrum is None:
            raise SchemeError(
                "solver='fixed-point' needs a bound on the slope of the flux, and none is known; use "
                "solver='newton-krylov'"
            )
        steepest = max(-R.spectrum[0], R.spectrum[1])
        if R.tau * steepest >= 1:
            raise SchemeError(
                f"solver='fixed-point' contracts only for tau < {1 / steepest:.6g} = 1/(sup|Φ'|·‖K‖²), and the "
                f"implicit part has tau = {R.tau:.6g}; lower tau, or use solver='newton-krylov', 'anderson' or 'damped'"
            )


def _damping(solver: Solver, method: str, R: _Residual) -> float:
    """ω of the damped fixed point and of Anderson's: 2/(low + high) unless the user chose."""
    if solver.damping != "auto" and (R.spectrum is None or method == "anderson"):
        return float(solver.damping)
    if method == "anderson":
        return 1.0 if R.spectrum is None else 2 / (max(R.low, 0.1) + R.high)
    if method != "damped":
        return 1.0
    if R.spectrum is None:
        raise SchemeError(
            "solver='damped' needs a bound on the slope of the flux to choose ω, and none is known; give damping=…, or "
            "use solver='newton-krylov'"
        )
    if R.low <= 0:
        raise SchemeError(
            f"solver='damped' needs a Jacobian with positive spectrum, and this one reaches down to {R.low:.4g}; lower "
            f"tau below {1 / -R.spectrum[0]:.6g}, or use solver='newton-krylov'"
        )
    omega = 2 / (R.low + R.high) if solver.damping == "auto" else float(solver.damping)
    if omega * R.high >= 2:
        raise SchemeError(
            f"Solver('damped', damping={omega:g}) contracts only for damping < {2 / R.high:.6g} = 2/(1 + τρ); lower "
            f"it, or use damping='auto'"
        )
    return omega


def _iterations(solver: Solver, method: str, damping: float, R: _Residual) -> int:
    """How many iterations a traced network needs for the tolerance of float64, from the contraction factors."""
    if solver.iterations:
        return solver.iterations
    tol = solver.tol or TOLERANCES["float64"]
    if method in ("fixed-point", "damped"):
        factor = max(abs(1 - damping * R.low), abs(1 - damping * R.high))
        count = math.ceil(math.log(tol) / math.log(factor)) if 0 < factor < 1 else _LONGEST
    else:
        krylov = _krylov_count(R, tol)
        count = {"thomas": 2, "newton-krylov": 5, "anderson": 3 * krylov}.get(method, krylov)
    return min(count, _LONGEST, solver.max_iterations)


def _krylov_count(R: _Residual, tol: float) -> int:
    condition = R.high / max(R.low, 0.05)
    return min(max(2, math.ceil(math.sqrt(condition) / 2 * math.log(2 / tol))), _LONGEST)


def _linear(graph: nx.DiGraph, arguments: tuple[str, ...]) -> bool:
    """Is R affine in v? Then R'(v)w does not read v."""
    _, v, _, _, tangent = arguments[:5]
    return v not in nx.ancestors(graph, tangent)


def _axis(graph: nx.DiGraph, arguments: tuple[str, ...]) -> int | None:
    """The one axis along which R'w couples a node with its neighbours; None if it reaches further or elsewhere."""
    _, _, _, w, tangent = arguments[:5]
    axes: tuple[Axis, ...] = graph.graph["axes"]
    reach = {w: [(0, 0)] * len(axes)}
    for name, node in graph.nodes.items():
        moving = [reach[a] for a in node["args"] if a in reach]
        if not moving or isinstance(node["op"], Solve):
            continue
        hull = [(min(r[a][0] for r in moving), max(r[a][1] for r in moving)) for a in range(len(axes))]
        if isinstance(node["op"], (Stencil, AdjointStencil)):
            taps = list(zip(*offsets(node["op"]), strict=True))
            hull = [(low + min(j), high + max(j)) for (low, high), j in zip(hull, taps, strict=True)]
        if isinstance(node["op"], (FilterBank, AdjointFilterBank)):
            return None
        reach[name] = hull
    found = [a for a, (low, high) in enumerate(reach[tangent]) if low or high]
    if not found:
        return next((a for a, axis in enumerate(axes) if not axis.periodic), None)
    if len(found) > 1 or reach[tangent][found[0]] != (-2, 2) or axes[found[0]].periodic:
        return None
    return found[0]
