"""The steady problems the multigrid tests run through."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import sympy as sp
import zoo
from sympy import Eq

import pdeloom as loom

x, y = zoo.x, zoo.y
U, V, W = zoo.U, zoo.V, zoo.W
KAPPA = loom.parameter("kappa", 2.0, positive=True)
A = loom.data("a", x, y)
F, F1, F3 = loom.data("f", x, y), loom.data("f", zoo.X), loom.data("f", zoo.x3, zoo.y3, zoo.z3)
C = loom.data("c", x, y)
_flux = zoo.isotropic(zoo.diffusivity("charbonnier"), U)

EQUATIONS: dict[str, Any] = {
    "poisson 1d": Eq(-loom.laplacian(V), F1),
    "poisson 2d": Eq(-loom.laplacian(U), F),
    "poisson 3d": Eq(-loom.laplacian(W), F3),
    "anisotropic 2d": Eq(-loom.d(U, x, 2) - 100 * loom.d(U, y, 2), F),
    "helmholtz 2d": Eq(U - KAPPA * loom.laplacian(U), F),
    "coefficient 2d": Eq(-loom.div(A * loom.grad(U)), F),
    "inpainting 2d": Eq(4 * C * (U - F), (1 - C) * loom.laplacian(U)),
    "charbonnier 2d": Eq(U - F, _flux),
    "bratu 2d": Eq(-loom.laplacian(U), sp.exp(U) + F),
    "biharmonic 2d": Eq(loom.laplacian(loom.laplacian(U)), F),
}


def network(name: str, kind: str = "dirichlet", n: int = 15, **options: Any) -> Any:
    """A compiled U-net on the unit interval, square or cube (pixels for inpainting); equal calls share it."""
    frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    return _network(name, kind, n, tuple(sorted(frozen.items())))


@functools.cache
def _network(name: str, kind: str, n: int, options: Any) -> Any:
    given = {"cycles": 3, "centering": "vertex", "trainable": (), "shared": False, "order": 2, **dict(options)}
    h = 1.0 if name.startswith(("inpainting", "charbonnier")) else 1 / n
    pde = loom.PDE(EQUATIONS[name], boundary=zoo.boundary(name, kind))
    return loom.compile(
        pde,
        grid=loom.Grid(given.pop("h", h), centering=given.pop("centering")),
        space=loom.FiniteDifference(given.pop("order")),
        trainable=given.pop("trainable"),
        shared=given.pop("shared"),
        scheme=loom.Multigrid(**given),
    )


def sample(net: Any, shape: tuple[int, ...], batch: int = 2, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A first guess and data that fit: coefficients positive, masks zero or one, sources compatible."""
    rng = np.random.default_rng(seed)
    u, data = 0.1 * rng.standard_normal((batch, 1, *shape)), {}
    for field in net.compiled.problem.data:
        name = str(field.func)
        if name == "a":
            data[name] = rng.uniform(0.1, 2, u.shape)
        elif name == "c":
            data[name] = (rng.uniform(0, 1, u.shape) < 0.2).astype(float)
        else:
            data[name] = rng.standard_normal(u.shape)
            if net.compiled.elliptic.singular:
                data[name] -= data[name].mean(axis=tuple(range(1, u.ndim)), keepdims=True)
    return u, data


VARIANTS: list[tuple[str, str, int, dict[str, Any]]] = [
    ("poisson 2d", "dirichlet", 15, {}),
    ("poisson 2d", "dirichlet", 16, {}),
    ("poisson 2d", "no-flux", 16, {}),
    ("poisson 2d", "no-flux", 13, {"cycle": "W"}),
    ("poisson 2d", "periodic", 16, {}),
    ("poisson 2d", "periodic", 15, {"cycle": "F"}),
    ("poisson 2d", "mixed", 14, {}),
    ("poisson 2d", "dirichlet", 15, {"cycle": "F", "first": "full"}),
    ("poisson 2d", "no-flux", 16, {"first": "full", "cycles": 2}),
    ("poisson 2d", "dirichlet", 16, {"centering": "cell"}),
    ("poisson 2d", "no-flux", 16, {"smoother": "jacobi"}),
    ("poisson 2d", "dirichlet", 15, {"smoother": "jacobi", "damping": 0.7, "post": 0}),
    ("poisson 2d", "no-flux", 16, {"smoother": "chebyshev"}),
    ("poisson 2d", "dirichlet", 15, {"smoother": "fsi", "pre": 3, "post": 1}),
    ("poisson 2d", "no-flux", 16, {"restriction": "full-weighting"}),
    ("poisson 2d", "no-flux", 17, {"restriction": "average"}),
    ("poisson 2d", "no-flux", 18, {"prolongation": "constant"}),
    ("poisson 2d", "dirichlet", 15, {"coarse": "galerkin"}),
    ("poisson 2d", "dirichlet", 15, {"levels": 2, "gradient": "implicit", "tol": 1e-4}),
    ("poisson 2d", "no-flux", 16, {"gradient": "implicit", "on_divergence": "accept"}),
    ("poisson 1d", "dirichlet", 31, {}),
    ("poisson 1d", "no-flux", 30, {}),
    ("poisson 3d", "dirichlet", 7, {}),
    ("poisson 3d", "no-flux", 6, {}),
    ("anisotropic 2d", "dirichlet", 15, {}),
    ("helmholtz 2d", "no-flux", 16, {}),
    ("helmholtz 2d", "mixed", 13, {}),
    ("helmholtz 2d", "periodic", 12, {"order": 4, "smoother": "chebyshev"}),
    ("coefficient 2d", "dirichlet", 15, {}),
    ("coefficient 2d", "no-flux", 16, {}),
    ("coefficient 2d", "periodic", 14, {}),
    ("coefficient 2d", "mixed", 14, {}),
    ("coefficient 2d", "periodic", 16, {"coarse": "galerkin"}),
    ("coefficient 2d", "no-flux", 16, {"coarse": "galerkin"}),
    ("coefficient 2d", "dirichlet", 16, {"coarse": "galerkin", "centering": "cell", "prolongation": "constant"}),
    ("poisson 3d", "no-flux", 8, {"coarse": "galerkin"}),
    ("coefficient 2d", "no-flux", 16, {"smoother": "jacobi"}),
    ("coefficient 2d", "dirichlet", 14, {"recombine": 2, "cycles": 4}),
    ("inpainting 2d", "no-flux", 19, {}),
    ("charbonnier 2d", "no-flux", 12, {"recombine": 1}),
    ("charbonnier 2d", "no-flux", 12, {}),
    ("charbonnier 2d", "dirichlet", 11, {"cycle": "W", "cycles": 2}),
    ("charbonnier 2d", "periodic", 9, {"cycles": 2}),
    ("charbonnier 2d", "periodic", 13, {"smoother": "jacobi"}),
    ("charbonnier 2d", "no-flux", 10, {"cycle": "F", "first": "full", "cycles": 2}),
    ("bratu 2d", "dirichlet", 15, {"tol": 1e-3}),
    ("biharmonic 2d", "no-flux", 16, {"smoother": "jacobi"}),
    ("biharmonic 2d", "dirichlet", 15, {"smoother": "chebyshev"}),
]
TRAINED: list[tuple[str, str, int, dict[str, Any]]] = [
    ("helmholtz 2d", "no-flux", 16, {"trainable": ["smoother", "transfer", "coarse", "kappa"]}),
    ("helmholtz 2d", "periodic", 16, {"trainable": ["smoother", "transfer", "kappa"], "shared": True}),
    ("coefficient 2d", "dirichlet", 15, {"trainable": ["smoother", "coarse"], "gradient": "implicit"}),
    ("charbonnier 2d", "no-flux", 12, {"cycles": 2, "trainable": ["smoother", "transfer", "coarse", "lam"]}),
    ("poisson 2d", "dirichlet", 15, {"trainable": ["smoother", "transfer"], "smoother": "jacobi"}),
    ("poisson 2d", "no-flux", 12, {"trainable": ["smoother"], "smoother": "chebyshev", "shared": True}),
]
