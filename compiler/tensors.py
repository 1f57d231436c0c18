"""Smoothed values and diffusion tensors T: what the flux T∇u of anisotropic diffusion is made of.

    smooth(e, sigma)                 e convolved with a Gaussian
    structure_tensor(u, sigma, rho)  K_ρ * (∇u_σ ∇u_σᵀ)
    edge_enhancing(J, g)             eigenvalues g(μ₁) across edges and 1 along them
    coherence_enhancing(J, C, alpha) eigenvalues α across and up to 1 along a flow-like structure
    tensor("T", x, y, bounds=…)      a symmetric matrix at every node, given at run time

μ₁ ≥ μ₂ are the eigenvalues of J, and T has its eigenvectors (Weickert, Anisotropic Diffusion in Image Processing,
Teubner 1998, sections 2.2 and 5.1–5.2). Every entry of T knows the eigenvalues of the whole, which is what stability
needs; no bound could be read off the entries one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy as sp

from .errors import DeclarationError, strict
from .fields import (
    Data,
    Parameter,
    Unknown,
    Vector,
    _checked_axes,
    _checked_bounds,
    _checked_name,
    _function,
    d,
    expression,
    space_of,
)

MU1, MU2 = sp.symbols("mu1 mu2", nonnegative=True)
"""The eigenvalues of a structure tensor, the larger one first, in laws for those of a diffusion tensor."""

_TINY = sp.Float(1e-12)
"""Eigenvalues that differ by less than this are one; the cube of its inverse is a number in float32."""


class Feature(Unknown):
    """A smoothed value of the state, read as a field is."""


class Smoothed(sp.Function):  # type: ignore[misc]  # sympy is untyped
    """e at the nodes, convolved with a Gaussian of standard deviation sigma along every axis."""

    nargs = 2
    is_extended_real = True


class TensorEntry(sp.Function):  # type: ignore[misc]
    """T_ij for T = λ₁(μ₁, μ₂) n nᵀ + λ₂(μ₁, μ₂) m mᵀ, n and m the eigenvectors of J: (i, j, λ₁, λ₂, J₁₁, J₁₂, J₂₂)."""

    nargs = 7
    is_extended_real = True

    @property
    def tensor(self) -> tuple[sp.Expr, ...]:
        """What all entries of one tensor share."""
        return tuple(self.args[2:])

    @property
    def laws(self) -> tuple[sp.Lambda, sp.Lambda]:
        return self.args[2], self.args[3]

    def steps(self) -> list[tuple[sp.Symbol, sp.Expr]]:
        """The entry, last, in a few steps, all but the last the same for all entries.

        Where μ₁ = μ₂ there is no direction, and T is the mean of its eigenvalues.
        """
        i, j, first, second, J11, J12, J22 = self.args
        half, size, cosine, sine, root = sp.symbols("half size cosine sine root", real=True)
        mu1, mu2, lam1, lam2 = sp.symbols("eigenvalue1 eigenvalue2 lam1 lam2", real=True)
        entry = (lam1 - lam2) / 2 * sine / root
        if i == j:
            entry = (lam1 + lam2) / 2 + (-1) ** i * (lam1 - lam2) / 2 * cosine / root
        return [
            (half, (J11 - J22) / 2),
            (size, sp.Abs(half) + sp.Abs(J12) + _TINY),  # squares are taken of what is at most 1
            (cosine, half / size),
            (sine, J12 / size),
            (root, sp.sqrt(cosine**2 + sine**2 + _TINY**2)),
            (mu1, sp.Max((J11 + J22) / 2 + size * root, 0)),
            (mu2, sp.Max((J11 + J22) / 2 - size * root, 0)),
            (lam1, first(mu1, mu2)),
            (lam2, second(mu1, mu2)),
            (sp.Symbol(f"T{i + 1}{j + 1}", real=True), entry),
        ]


@strict
def smooth(e: Any, sigma: float) -> Any:
    """`e`, a scalar or the entries of a vector or matrix, convolved with a Gaussian of standard deviation `sigma` ≥ 0.

    Derivatives inside are taken to the nodes, so that `smooth(grad(u), 1)` is ∇u_σ; sigma is a length like `spacing`.
    The Gaussian is cut off at 3 sigma and its weights sum to one.
    """
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float, sp.Number)) or not 0 <= float(sigma) < 1e6:
        raise DeclarationError(f"smooth(…, sigma={sigma!r}): a number from 0 on, a length like the spacing")
    if isinstance(e, sp.MatrixBase):
        return e.applyfunc(lambda entry: smooth(entry, sigma))
    e = expression(e)
    space_of(e)
    return Smoothed(e, sp.nsimplify(sigma, rational=True))


@strict
def structure_tensor(u: Any, sigma: float = 0.0, rho: float = 0.0) -> Any:
    """J = K_ρ * (∇u_σ ∇u_σᵀ), a matrix; sigma and rho are lengths like the spacing, 0 for no smoothing."""
    if not isinstance(u, (Unknown, Data)):
        raise DeclarationError(f"structure_tensor({u}, …): the first argument must be a field")
    gradient = [smooth(d(u, x), sigma) for x in space_of(u)]
    return sp.ImmutableDenseMatrix([[smooth(a * b, rho) for a in gradient] for b in gradient])


@strict
def edge_enhancing(J: Any, g: Any) -> Any:
    """T with the eigenvalues g(μ₁) across and 1 along edges, for a structure tensor J and a diffusivity g(s²), which
    may be an expression in μ₁ too."""
    law = g if isinstance(g, sp.Expr) and not isinstance(g, sp.Lambda) else g(MU1)
    return _functions_of("edge_enhancing", J, expression(law), sp.S.One)


@strict
def coherence_enhancing(J: Any, C: Any, alpha: Any = 0.001) -> Any:
    """T with the eigenvalues α across and α + (1 − α)exp(−C/(μ₁ − μ₂)²) along structures, 0 < α ≤ 1 and C > 0.

    At (μ₁ − μ₂)² < C/80 the exponential is taken as 10⁻³⁵.
    """
    for name, value in (("C", C), ("alpha", alpha)):
        start = getattr(value, "value", value)
        if not isinstance(start, (int, float, sp.Number)) or isinstance(start, bool) or not 0 < float(start) < 1e30:
            raise DeclarationError(f"coherence_enhancing(…, {name}={value!r}): a positive number")
    start = getattr(alpha, "value", alpha)
    if float(start) > 1:
        raise DeclarationError(f"coherence_enhancing(…, alpha={alpha!r}): at most 1, the eigenvalue along structures")
    alpha, C = (v if isinstance(v, sp.Symbol) else sp.nsimplify(v, rational=True) for v in (alpha, C))
    along = alpha + (1 - alpha) * sp.exp(-C / sp.Max((MU1 - MU2) ** 2, C / 80))
    return _functions_of("coherence_enhancing", J, alpha, along)


def entry(i: Any, j: Any, first: Any, second: Any, *J: Any) -> sp.Expr:
    """An entry of a diffusion tensor, its laws in mu1 and mu2: how text writes what the two functions above make."""
    if i not in (0, 1) or j not in (0, 1):
        raise DeclarationError(f"tensor_entry({i}, {j}, …): the indices of a 2 × 2 tensor are 0 and 1")
    for law in (first, second):
        alien = {s for s in expression(law).free_symbols if s not in (MU1, MU2) and not isinstance(s, Parameter)}
        if alien or expression(law).atoms(Unknown, Data):
            raise DeclarationError(
                f"{law}: the eigenvalues of a diffusion tensor are functions of mu1, mu2 and parameters, no others"
            )
    laws = (sp.Lambda((MU1, MU2), expression(law)) for law in (first, second))
    return TensorEntry(min(i, j), max(i, j), *laws, *map(expression, J))


def _functions_of(name: str, J: Any, first: Any, second: Any) -> Any:
    if not isinstance(J, sp.MatrixBase) or J.shape != (2, 2) or J != J.T:
        raise DeclarationError(f"{name}({J}): give a structure tensor of two dimensions, from loom.structure_tensor")
    three = J[0, 0], J[0, 1], J[1, 1]
    return sp.ImmutableDenseMatrix(2, 2, lambda i, j: entry(i, j, first, second, *three))


@strict
def tensor(name: str, *axes: sp.Symbol, bounds: tuple[float, float]) -> Any:
    """A symmetric matrix given at run time, one data field for every entry on and above its diagonal.

    The fields of `tensor("T", x, y, bounds=(0, 1))` are called T_xx, T_xy and T_yy. `bounds` are those of its
    eigenvalues, which the stability proof uses and the network checks.
    """
    _checked_name(name)
    axes = _checked_axes(name, axes)
    checked = _checked_bounds(f"tensor {name!r}", bounds)
    if len(axes) < 2 or checked is None:
        raise DeclarationError(f"tensor {name!r}: at least two coordinates, and bounds=(lowest, highest)")
    half = (checked[1] - checked[0]) / 2

    def one(i: int, j: int) -> Any:
        x, y = axes[min(i, j)], axes[max(i, j)]
        own = checked if i == j else (-half, half)
        return _function(f"{name}_{x}{y}", Data, bounds=own, tensor=(name, i == j, axes, checked))(*axes)

    return Vector(len(axes), len(axes), one)


def given_tensors(data: Iterable[Any]) -> dict[str, tuple[Any, float, float]]:
    """The tensors of which data fields are entries, by name: the matrix and the bounds of its eigenvalues."""
    marks = {f.func.tensor for f in data if hasattr(f.func, "tensor")}
    return {name: (tensor(name, *axes, bounds=bounds), *bounds) for name, _, axes, bounds in sorted(marks, key=str)}
