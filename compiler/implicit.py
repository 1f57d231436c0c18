"""Which method solves an implicit step, and why: the contract of `Solver` made concrete for one graph.

A residual v − … − τf(v) has the Jacobian J = I + τA', A' between the bounds of the stability report. So

    linear, neighbours along one axis      Thomas               exact
    linear, J symmetric, A' ≥ 0            conjugate gradients  ½√κ ln(2/tol) iterations, κ = 1 + τρ
    linear                                 BiCGStab
    nonlinear                              Newton–Krylov        with one of the last two inside
    fixed point v ← v − R(v)               contracts iff τ·sup|Φ'|·‖K‖² < 1
    damped      v ← v − ωR(v)              contracts iff 0 < ωλ < 2 on the spectrum of J; best ω = 2/(2 + τρ)

What cannot work is refused with the bound and a method that would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import networkx as nx

from .discretise import SemiDiscrete
from .errors import SchemeError
from .grid import Axis
from .layout import offsets
from .ops import AdjointStencil, Solve, Stencil
from .schemes import Scheme
from .solve import Solver
from .stability import Report

_KRYLOV = {"cg", "bicgstab"}
_LONGEST = 200
"""No traced network unrolls more iterations than this."""


@dataclass(frozen=True)
class Plan:
    """A method that fits, and its constants.

    `inner` is the Krylov method inside Newton's and for the adjoint equation, `dims` the axis of every Thomas solve,
    `unrolled` how many iterations a traced network has, `gain` = 1 + τρ what rounding is magnified by, `linear` says
    whether the residual is; `secant` is the Krylov method for the secant steps of a Newton method whose Jacobian may be
    indefinite.
    """

    solver: Solver
    method: str
    linear: bool
    inner: str
    unrolled: int
    unrolled_inner: int
    gain: float
    damping: float
    secant: str | None
    dims: dict[str, int] | None


def plan_solves(system: SemiDiscrete, scheme: Scheme, graph: nx.DiGraph, report: Report) -> Plan | None:
    """The plan of all solves in a graph; None if there are none.

    Raises `SchemeError` for a method that cannot solve this residual.
    """
    solves = [(name, node["op"], node["args"]) for name, node in graph.nodes.items() if isinstance(node["op"], Solve)]
    if not solves:
        return None
    solver = solves[0][1].solver
    linear = all(_linear(graph, arguments) for _, _, arguments in solves)
    dims = {name: _axis(graph, arguments) for name, _, arguments in solves} if linear else {}
    tridiagonal = bool(dims) and all(a is not None for a in dims.values())
    seen = scheme.structured(system.problem.dimension)
    operator = report.operator
    spectrum = operator.frozen if seen.frozen else operator.jacobian
    asymmetry = "" if seen.frozen else operator.asymmetry
    definite = not asymmetry and spectrum is not None and spectrum[0] >= 0
    tau = max(float(c.subs("tau", report.tau)) for c in seen.implicit)
    gain = 1 + tau * spectrum[1] if spectrum is not None else 10.0
    method = solver.method
    if method == "auto":
        method = "thomas" if tridiagonal else "cg" if definite else "bicgstab"
        method = method if linear else "newton-krylov"
    _check(method, linear, tridiagonal, asymmetry, definite, tau, spectrum)
    plan = Plan(
        solver=solver,
        method=method,
        linear=linear,
        inner="cg" if definite else "bicgstab",
        unrolled=0,
        unrolled_inner=0,
        gain=gain,
        damping=1.0,
        secant=("cg" if operator.frozen and operator.frozen[0] >= 0 else "bicgstab")
        if method == "newton-krylov" and not linear and len(solves[0][2]) > 5
        else None,
        dims={name: a - len(system.axes) for name, a in dims.items()} if method == "thomas" else None,  # type: ignore[operator]
    )
    if method == "damped":
        plan = replace(plan, damping=_damping(solver, tau, spectrum))
    if method == "anderson":
        best = 1.0 if spectrum is None else 2 / (max(1 + tau * spectrum[0], 0.1) + 1 + tau * spectrum[1])
        plan = replace(plan, damping=best if solver.damping == "auto" else float(solver.damping))
    return _counted(plan, tau, spectrum)


def _check(
    method: str,
    linear: bool,
    tridiagonal: bool,
    asymmetry: str,
    definite: bool,
    tau: float,
    spectrum: tuple[float, float] | None,
) -> None:
    if method in _KRYLOV | {"thomas"} and not linear:
        raise SchemeError(
            f"solver={method!r} solves linear systems, and this residual is nonlinear; use solver='newton-krylov', or "
            f"the semi-implicit scheme, whose systems are linear"
        )
    if method == "thomas" and not tridiagonal:
        raise SchemeError(
            "solver='thomas' needs a residual that couples neighbours along one axis that is not periodic; use "
            "solver='cg', or split the axes with AOS or ADI"
        )
    if method == "cg" and not definite:
        why = asymmetry or (
            "no bound on its spectrum is known"
            if spectrum is None
            else f"its spectrum reaches down to {1 + tau * spectrum[0]:.4g}"
        )
        raise SchemeError(
            f"solver='cg' needs a symmetric positive definite operator, and this one is not known to be ({why}); use "
            f"solver='bicgstab' or 'newton-krylov'"
        )
    if method == "fixed-point":
        if spectrum is None:
            raise SchemeError(
                "solver='fixed-point' needs a bound on the slope of the flux, and none is known; use "
                "solver='newton-krylov'"
            )
        steepest = max(-spectrum[0], spectrum[1])
        if tau * steepest >= 1:
            raise SchemeError(
                f"solver='fixed-point' contracts only for tau < {1 / steepest:.6g} = 1/(sup|Φ'|·‖K‖²), and the "
                f"implicit part has tau = {tau:.6g}; lower tau, or use solver='newton-krylov', 'anderson' or 'damped'"
            )


def _damping(solver: Solver, tau: float, spectrum: tuple[float, float] | None) -> float:
    if spectrum is None:
        if solver.damping == "auto":
            raise SchemeError(
                "solver='damped' needs a bound on the slope of the flux to choose ω, and none is known; give "
                "damping=…, or use solver='newton-krylov'"
            )
        return float(solver.damping)
    low, high = 1 + tau * spectrum[0], 1 + tau * spectrum[1]
    if low <= 0:
        raise SchemeError(
            f"solver='damped' needs a Jacobian with positive spectrum, and this one reaches down to {low:.4g}; lower "
            f"tau below {1 / -spectrum[0]:.6g}, or use solver='newton-krylov'"
        )
    omega = 2 / (low + high) if solver.damping == "auto" else float(solver.damping)
    if omega * high >= 2:
        raise SchemeError(
            f"Solver('damped', damping={omega:g}) contracts only for damping < {2 / high:.6g} = 2/(1 + τρ); lower it, "
            f"or use damping='auto'"
        )
    return omega


def _counted(plan: Plan, tau: float, spectrum: tuple[float, float] | None) -> Plan:
    """How many iterations a traced network needs for the tolerance of float64, from the contraction factors."""
    tol = plan.solver.tol or 1e-10
    low, high = (1 + tau * s for s in spectrum) if spectrum is not None else (1.0, 100.0)
    krylov = _krylov_count(high / max(low, 0.05), tol)
    inner = _krylov_count(high / max(low, 0.05), 1e-3)
    factor = max(abs(1 - plan.damping * low), abs(1 - plan.damping * high))
    linear_rate = math.ceil(math.log(tol) / math.log(factor)) if 0 < factor < 1 else _LONGEST
    count = {"fixed-point": linear_rate, "damped": linear_rate, "thomas": 2, "newton-krylov": 5, "anderson": 3 * krylov}
    unrolled = plan.solver.iterations or min(count.get(plan.method, krylov), _LONGEST, plan.solver.max_iterations)
    return replace(plan, unrolled=unrolled, unrolled_inner=inner)


def _krylov_count(condition: float, tol: float) -> int:
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
        reach[name] = hull
    found = [a for a, (low, high) in enumerate(reach[tangent]) if low or high]
    if not found:
        return next((a for a, axis in enumerate(axes) if not axis.periodic), None)
    if len(found) > 1 or reach[tangent][found[0]] != (-2, 2) or axes[found[0]].periodic:
        return None
    return found[0]
