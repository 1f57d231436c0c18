"""The PDEs every test runs through: diffusions in one, two and three dimensions."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import sys
from pathlib import Path
from typing import Any

import sympy as sp
import torch
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.nonlinearity import DIFFUSIVITIES
from pdeloom.compiler.problem import canonical
from pdeloom.compiler.reference import Reference
from pdeloom.compiler.schemes import SCHEMES as ALL

VALUES = {"lam": 0.3, "eps": 0.2, "kappa": 2.0}
X = loom.coordinates("x")
V = loom.field("v", X)
x, y = loom.coordinates("x y")
U = loom.field("u", x, y)
x3, y3, z3 = loom.coordinates("x y z")
W = loom.field("w", x3, y3, z3)
LAM = loom.parameter("lam", 0.3, positive=True)
ALPHA = loom.parameter("alpha", 0.4)
A = loom.data("a", x, y, bounds=(0, 2))


def diffusivity(name: str) -> Any:
    return loom.diffusivity(
        name, *(loom.parameter(p, VALUES[p], positive=True) for p in DIFFUSIVITIES[name].parameters)
    )


def separable(g: Any, u: Any, *axes: Any) -> Any:
    return sp.Add(*(loom.d(g(loom.d(u, a) ** 2) * loom.d(u, a), a) for a in axes))


def isotropic(g: Any, u: Any) -> Any:
    return loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u))


_g = diffusivity("perona-malik")
_curvature = loom.d(V, X, 2) + ALPHA * loom.d(V, X)
EQUATIONS: dict[str, Any] = {
    "heat 1d": Eq(loom.dt(V), loom.laplacian(V)),
    "heat 2d": Eq(loom.dt(U), 0.5 * loom.laplacian(U)),
    "heat 3d": Eq(loom.dt(W), loom.laplacian(W)),
    "perona-malik 1d": Eq(loom.dt(V), isotropic(_g, V)),
    "perona-malik 2d": Eq(loom.dt(U), isotropic(_g, U)),
    "perona-malik 3d": Eq(loom.dt(W), isotropic(_g, W)),
    "separable 2d": Eq(loom.dt(U), separable(_g, U, x, y)),
    "separable 3d": Eq(loom.dt(W), separable(_g, W, x3, y3, z3)),
    "fourth order 1d": Eq(loom.dt(V), -loom.d(_g(loom.d(V, X, 2) ** 2) * loom.d(V, X, 2), X, 2)),
    "biharmonic 2d": Eq(loom.dt(U), -loom.laplacian(_g(loom.norm2(loom.laplacian(U))) * loom.laplacian(U))),
    "mixed operator 1d": loom.gradient_flow(LAM**2 / 2 * sp.log(1 + _curvature**2 / LAM**2), V),
    "coefficient 2d": Eq(loom.dt(U), loom.div(A * loom.grad(U))),
    "coefficient and g 2d": Eq(loom.dt(U), loom.div(A * _g(loom.norm2(loom.grad(U))) * loom.grad(U))),
    "odd flux 1d": Eq(loom.dt(V), loom.d(sp.tanh(loom.d(V, X)), X)),
    "one-sided flux 1d": Eq(loom.dt(V), loom.d(sp.exp(loom.d(V, X)), X)),
    "reaction 2d": Eq(loom.dt(U), loom.laplacian(U) + 0.1 * (A - U)),
    "porous 2d": Eq(loom.dt(U), loom.div((1 + U**2) * loom.grad(U))),
}
EQUATIONS |= {
    f"{name} 2d": Eq(loom.dt(U), isotropic(diffusivity(name), U)) for name in DIFFUSIVITIES if name != "linear"
}
REACTING = {"reaction 2d"}
DIFFUSIONS = sorted(set(EQUATIONS) - REACTING)
_ALIKE = {f"{name} 2d" for name in DIFFUSIVITIES} - {"perona-malik 2d"}  # they differ in one expression
CASES = [
    (name, kind, order)
    for name, kind, order in itertools.product(EQUATIONS, ("no-flux", "dirichlet", "periodic", "mixed"), (2, 4))
    if name not in _ALIKE or (kind, order) in (("no-flux", 4), ("mixed", 2))
]
BOUNDARIES: dict[str, Any] = {"no-flux": loom.NoFlux(), "dirichlet": loom.Dirichlet(0), "periodic": loom.Periodic()}


def dimension(name: str) -> int:
    return int(next(word for word in name.split() if word[0].isdigit())[0])


def axes(name: str) -> tuple[Any, ...]:
    return ((X,), (x, y), (x3, y3, z3))[dimension(name) - 1]


def mixed_boundary(name: str) -> dict[Any, Any]:
    """Dirichlet and no-flux on the two sides of the first axis, periodic on the others."""
    first, *others = axes(name)
    return {first: (loom.Dirichlet(0), loom.NoFlux()), **dict.fromkeys(others, loom.Periodic())}


KINDS = ("no-flux", "dirichlet", "periodic", "mixed", "walls")


def walls(name: str) -> dict[Any, Any]:
    """Dirichlet conditions of two values at the ends of the first axis, no flux along the others."""
    first, *others = axes(name)
    return {first: (loom.Dirichlet(1), loom.Dirichlet(-0.5)), **dict.fromkeys(others, loom.NoFlux())}


def boundary(name: str, kind: str) -> Any:
    made = {"mixed": mixed_boundary, "walls": walls}
    return made[kind](name) if kind in made else BOUNDARIES[kind]


def pde(name: str, kind: str = "no-flux") -> Any:
    return loom.PDE(EQUATIONS[name], boundary=boundary(name, kind))


def network(name: str, kind: str = "no-flux", order: int = 2, **options: Any) -> Any:
    """A compiled network with a small fixed step, stable or not; equal calls share it."""
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return _network(name, kind, order, tuple(sorted(frozen.items())))


@functools.cache
def right_hand_side(name: str, kind: str = "no-flux", order: int = 2, h: Any = 0.5) -> Reference:
    """The reference of a discretisation alone: nothing is analysed or emitted."""
    problem = canonical(pde(name, kind))
    system = loom.FiniteDifference(order).discretise(problem, loom.Grid(h, centering="vertex"))
    return Reference(system, loom.ForwardEuler(1), 1e-3, {p.name: p.value for p in problem.parameters})


@functools.cache
def _network(name: str, kind: str, order: int, options: Any) -> Any:
    given = {"steps": 3, "tau": 1e-3, "h": 0.5, "centering": "vertex", **dict(options)}
    grid = loom.Grid(given.pop("h"), centering=given.pop("centering"))
    scheme = loom.ForwardEuler(given.pop("steps"), given.pop("tau"))
    return loom.compile(
        pde(name, kind), grid=grid, space=loom.FiniteDifference(order), scheme=scheme, unstable="allow", **given
    )


# --- every scheme: discovered, with small arguments; one for every order a scheme offers -------------------------


def _variants(cls: Any) -> dict[str, Any]:
    example = cls.example()
    if "order" not in {f.name for f in dataclasses.fields(cls)}:
        return {cls.name: example}
    found = {}
    for order in range(1, 6):
        with contextlib.suppress(loom.SchemeError):
            found[f"{cls.name} {order}"] = dataclasses.replace(example, order=order)
    return found


TIME = [cls for cls in ALL.values() if 0 not in cls.time_orders]
SCHEMES: dict[str, Any] = {name: s for cls in TIME for name, s in _variants(cls).items()}
IMPLICIT = [name for name, s in SCHEMES.items() if s.structure.solves]
EXPLICIT = [name for name in SCHEMES if name not in IMPLICIT]


def scheme(name: str, layers: int | None = None, **given: Any) -> Any:
    """The scheme of that name; `layers` sets how long it runs, in steps or cycles."""
    s = SCHEMES[name]
    if layers is not None:
        given["cycles" if hasattr(s, "cycles") else "steps"] = layers
    return dataclasses.replace(s, **given)


def in_time(name: str, equation: Any) -> Any:
    """The equation, with ∂²u/∂t² on the left for schemes of second order in time."""
    (u,) = {f.expr for f in equation.lhs.atoms(sp.Derivative)}
    return equation if 1 in SCHEMES[name].time_orders else Eq(loom.dt(u, 2), equation.rhs)


@functools.cache
def march(name: str, equation: str, kind: str = "no-flux", **given: Any) -> Any:
    """An equation compiled with a scheme, stable or not."""
    options = {k: list(v) if k == "trainable" else v for k, v in given.items() if k in ("trainable", "shared")}
    h, order = given.get("h", 0.5), given.get("order", 2)
    fields = {k: v for k, v in given.items() if k not in ("trainable", "shared", "h", "order")}
    pde = loom.PDE(in_time(name, EQUATIONS[equation]), boundary=boundary(equation, kind))
    return loom.compile(
        pde,
        grid=loom.Grid(h),
        space=loom.FiniteDifference(order),
        scheme=scheme(name, **fields),
        unstable="allow",
        **options,
    )


def sample(net: Any, *, batch: int = 2, seed: int = 0, requires_grad: bool = False) -> tuple[Any, dict[str, Any]]:
    """A random state of a few nodes per axis, and the data fields the equation reads."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    problem = net.compiled.problem
    shape = {1: (12,), 2: (8, 7), 3: (5, 6, 5)}[problem.dimension]
    u = torch.rand(batch, 1, *shape, dtype=torch.float64, generator=generator).requires_grad_(requires_grad)
    data = {
        str(f.func): torch.rand(batch, 1, *shape, dtype=torch.float64, generator=generator).requires_grad_(
            requires_grad
        )
        for f in problem.data
    }
    return u, data


@functools.cache
def example(name: str) -> Any:
    """A script of examples/, as a module."""
    path = Path(__file__).parents[1] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def fitted(module: Any, u: Any, target: Any) -> None:
    """Weights for which the module makes `target` of u."""
    optimiser = torch.optim.LBFGS(
        module.parameters(), max_iter=40, tolerance_grad=1e-12, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Any:
        optimiser.zero_grad()
        value = (module(u) - target).square().sum()
        value.backward()
        return value

    optimiser.step(loss)


def energy_falls_along_its_gradient(net: loom.Net) -> None:
    """One explicit step on a small grid goes along −∇E, with the area of a cell as weight."""
    module, area = net.module(torch.float64), float(sp.prod(a.spacing for a in net.compiled.system.axes))
    state = torch.rand(1, net.compiled.system.width, 6, 5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(module.energy(state).sum(), state)
    with torch.no_grad():
        rate = (module(state) - state) / net.stability.tau
    torch.testing.assert_close(rate * area, -gradient, rtol=1e-9, atol=1e-9)
