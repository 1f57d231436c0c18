"""Fluxes that are learned: mixtures g = Σ a_j g_j of one diffusivity at several contrasts λ_j, in closed form.

    kind            g_j(s²)                 flux Φ = g·s    what holds for all weights a_j > 0, λ_j > 0
    "rational"      1/(1 + s²/λ_j²)         nonmonotone     0 ≤ g ≤ Σa, −Σa/8 ≤ Φ' ≤ Σa     norms decrease
    "gaussian"      exp(−s²/(2λ_j²))        nonmonotone     0 ≤ g ≤ Σa, −0.45 Σa ≤ Φ' ≤ Σa  norms decrease
    "charbonnier"   1/√(1 + s²/λ_j²)        monotone        0 ≤ Φ' ≤ g ≤ Σa                 and distances too
    "spline"        min(1, λ_j/|s|)         monotone        0 ≤ Φ' ≤ g ≤ Σa                 and distances too

With weights of either sign ("free") Φ' still lies in [−Σ|a|, Σ|a|], so that energies decrease for τ ≤ 2/(Σ|a| ‖K‖²),
and norms and distances need not. A free spline is any odd, piecewise linear flux with knots ±λ_j, constant at the ends.

A mixture is an ordinary expression in ordinary parameters: it is emitted, bounded, integrated to an energy and read
back like any other. The bounds above enter the certificate with the weights as they are, so τ ≤ 2/(Σa ‖K‖²) follows
the training. The rational kind is the activation family of trainable nonlinear reaction diffusion with the radial basis
replaced by the fluxes of Perona and Malik (Chen, Pock, IEEE Trans. Pattern Anal. Mach. Intell. 39 (2017) 1256–1272,
doi:10.1109/TPAMI.2016.2596743).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from .errors import DeclarationError, strict, suggest
from .fields import FluxWeight, Parameter
from .nonlinearity import diffusivity
from .pointwise import computable, evaluate

KINDS = {
    "rational": "perona-malik",
    "gaussian": "perona-malik-exponential",
    "charbonnier": "charbonnier",
    "spline": "huber",
}
SIGNS = ("positive", "free")
_LEAST = 1e-3
"""Weights that fit to less than this part of the largest start there, so that they can be trained."""


@dataclass(frozen=True)
class LearnedFlux:
    """A diffusivity with weights of its own: call it on s², name it, its parameters or "flux" in `trainable`.

    `error` is the largest deviation of g from the diffusivity it starts as, relative to its largest value.
    """

    name: str
    kind: str
    weights: tuple[Parameter, ...]
    contrasts: tuple[Parameter, ...]
    error: float

    def __call__(self, r: Any) -> sp.Expr:
        """g(r), r = s²."""
        basis = KINDS[self.kind]
        pairs = zip(self.weights, self.contrasts, strict=True)
        return sp.Add(*(a * diffusivity(basis, contrast)(r) for a, contrast in pairs))

    def _misused(self, *_: Any) -> Any:
        raise DeclarationError(
            f"the learned flux {self.name!r} is a function of s²: write "
            f"{self.name}(loom.norm2(loom.grad(u)))*loom.grad(u)"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _misused
    _sympy_ = _misused

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (*self.weights, *self.contrasts)


@strict
def learned_flux(
    name: str = "flux", kind: str = "rational", terms: int = 6, start: Any = None, sign: str = "positive"
) -> LearnedFlux:
    """A mixture of `terms` fluxes of one kind whose contrasts double from term to term, fitted to `start`.

    Args:
        name: its weights and contrasts are the parameters name_a1, …, name_l1, ….
        kind: "rational", "gaussian", "charbonnier" or "spline"; see above for what is proved of each.
        terms: 1 to 32.
        start: a diffusivity of s², such as `loom.diffusivity("weickert", 0.1)`; None stands for Perona–Malik with
            λ = 0.1.
        sign: of the weights: "positive", or "free", which gives up the proof that norms decrease (but not that the
            energy does: `guarantee="energy decrease"`).

    >>> g = learned_flux(terms=2)
    >>> [p.name for p in g.parameters]
    ['flux_a1', 'flux_a2', 'flux_l1', 'flux_l2']

    Raises `DeclarationError` for an unknown kind, fewer than one or more than 32 terms, and for a start that is no
    function of s² alone, not finite, or, with positive weights, negative somewhere.
    """
    from scipy.optimize import nnls  # slow to import

    if kind not in KINDS:
        raise DeclarationError(f"learned_flux(kind={kind!r}): {suggest(str(kind), list(KINDS))}")
    if sign not in SIGNS:
        raise DeclarationError(f"learned_flux(sign={sign!r}): {suggest(str(sign), list(SIGNS))}")
    free = sign == "free"
    if free and terms == 1:
        raise DeclarationError("learned_flux(terms=1, sign='free'): one term has the sign of the diffusion; take more")
    if isinstance(terms, bool) or not isinstance(terms, int) or not 1 <= terms <= 32:
        raise DeclarationError(f"learned_flux(terms={terms!r}): give a whole number from 1 to 32")
    g = _values(diffusivity("perona-malik", sp.Float(0.1)) if start is None else start)
    scale = _half(g)
    contrasts = scale * 2.0 ** (np.arange(terms) - (terms - 1) // 2)
    s = scale * np.logspace(-2, 2, 401)
    target = g(s)
    if not abs(target).max() > 1e-100:
        raise DeclarationError("learned_flux(start=…): g is zero everywhere; start from a diffusivity g ≥ 0")
    negative = not free and (target < -1e-9 * abs(target).max()).any()
    if not np.isfinite(target).all() or negative:
        worst = s[int(np.nanargmin(np.where(np.isfinite(target), target, -np.inf)))]
        raise DeclarationError(
            f"learned_flux(start=…): g is {float(g(worst)):.4g} at s = {worst:.4g}; a mixture starts from finite "
            f"diffusivities, and one of positive weights from g ≥ 0"
        )
    basis = _values(diffusivity(KINDS[kind], sp.Integer(1)))
    terms_at = np.stack([basis(s / c) for c in contrasts], axis=1)
    if free:
        weights = np.linalg.lstsq(terms_at, target, rcond=1e-6)[0]
        least = 1e-12 * abs(weights).max()  # below is rounding, which is not the same with any number of threads
        weights = np.array([float(f"{w:.10g}") if abs(w) > least else 0.0 for w in weights])
    else:
        weights = nnls(terms_at, target)[0]
        weights = np.maximum(weights, _LEAST * max(weights.max(), 1e-12))
    error = float(abs(terms_at @ weights - target).max() / abs(target).max())
    if error > 0.5:
        raise DeclarationError(
            f"learned_flux(start=…): the best mixture of {terms} {kind} terms with contrasts from {contrasts[0]:.3g} "
            f"to {contrasts[-1]:.3g} is wrong by {error:.0%}; start from a diffusivity that falls with s"
        )
    numbers = range(1, terms + 1)
    return LearnedFlux(
        name,
        kind,
        tuple(_parameter(f"{name}_a{j}", w, not free) for j, w in zip(numbers, weights, strict=True)),
        tuple(_parameter(f"{name}_l{j}", c) for j, c in zip(numbers, contrasts, strict=True)),
        error,
    )


def _parameter(name: str, value: float, positive: bool = True) -> Parameter:
    return FluxWeight.declared(name, float(f"{value:.6g}"), positive)


def _values(start: Any) -> Any:
    """g as a function of arrays of s."""
    r = sp.Symbol("r", nonnegative=True)
    try:
        e = sp.sympify(start(r), strict=True)
    except (TypeError, sp.SympifyError):
        raise DeclarationError(f"learned_flux(start={start!r}): give a function of s², such as a diffusivity") from None
    e = e.xreplace({p: sp.Float(p.value) for p in e.free_symbols if isinstance(p, Parameter)})
    if e.free_symbols - {r} or e.has(sp.I) or computable(e) is not None:
        raise DeclarationError(f"learned_flux(start=…): {e} is no real function of s² = r alone")

    def values(s: Any) -> np.ndarray:
        found: np.ndarray = evaluate(e, {r: np.asarray(s, dtype=float) ** 2}, {}) + np.zeros(np.shape(s))
        return found

    return values


def _half(g: Any) -> float:
    """Where g has fallen to half of g(0): λ for Perona–Malik; 1 if it never does."""
    s = np.logspace(-8, 8, 3201)
    below = np.flatnonzero(g(s) <= g(0.0) / 2)
    return float(f"{s[below[0]]:.3g}") if len(below) and below[0] else 1.0
