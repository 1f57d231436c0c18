"""What is known of a multigrid cycle before it runs: energy decrease, and the factors of local Fourier analysis.

    energy decrease     A symmetric positive definite, A_H = R A P with R a multiple of Pᵀ, a smoother that decreases
                        the energy: then so does the cycle, ‖u⁺ − u*‖_A ≤ ‖u − u*‖_A, for the coarse correction is
                        an orthogonal projection in ⟨A·,·⟩ (docs/multigrid.md)
    smoothing factor    the error that a sweep leaves of the frequencies a coarser grid cannot see: an estimate
    two-grid factor     the error that a cycle leaves if the coarser grid is solved exactly: an estimate

Whatever the weights of the smoother and the transfers, a fixed point of the cycle solves A(u) = b.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from . import notation
from .elliptic import Elliptic
from .fields import Data, Parameter
from .local_fourier import factors
from .stability import Result, Results
from .witness import Witness


@dataclass(frozen=True)
class CycleTraining:
    """What becomes a weight: parameters of the PDE, and the "smoother", the "transfer" stencils and the "coarse" gain
    of every level, shared by all or one set each."""

    parameters: frozenset[Parameter] = frozenset()
    words: frozenset[str] = frozenset()
    shared: bool = False


@dataclass(frozen=True)
class CycleReport(Results):
    """The results for a cycle. `factors` are the smoothing and two-grid factors, by name and level where they differ.

    The `bound` of a result is its factor where there is one; an estimate is never "proved".
    """

    factors: Mapping[str, float]

    column: ClassVar[str] = "factor"
    digits: ClassVar[int] = 3

    @property
    def tau_max(self) -> None:
        """A steady problem has no step."""
        return None


def judge(problem: Elliptic, training: CycleTraining, guarantee: str | None) -> CycleReport:
    """Everything that is known of the cycle for every weight that training can reach.

    Raises `SchemeError` for a `guarantee` that is no notion of a cycle.
    """
    found = {}
    for level in range(len(problem.semi) + 1):
        name = f" of level {level}" if problem.semi else ""
        found[f"smoothing factor{name}"], found[f"two-grid factor{name}"] = factors(problem, level)
    assumptions = ["estimate: the maximum over sampled frequencies, on an unbounded grid"]
    if not problem.linear:
        assumptions.append("the diffusivities and slopes are those at u = 0")
    if problem.problem.data and problem.stencil is None:
        assumptions.append("data lie in the middle of their bounds, or are 1")
    results = [_energy(problem, training)]
    for name, text in (
        ("smoothing factor", "what a sweep leaves of the high frequencies"),
        ("two-grid factor", "what a cycle leaves of the error, the next grid solved exactly"),
    ):
        worst = max(value for key, value in found.items() if key.startswith(name))
        witness = Witness(f"{text}: {worst:.3g}")
        formula = f"estimate {worst:.3g}"
        results.append(Result(name, "unknown", worst, formula, "spectral radius", tuple(assumptions), witness))
    report = CycleReport(tuple(results), guarantee or "energy decrease", found)
    report[report.governing]  # an unknown notion is an error
    return report


def _energy(problem: Elliptic, training: CycleTraining) -> Result:
    scheme, fluxes = problem.scheme, problem.system.fluxes
    why = ""
    if not problem.linear:
        why = "A is nonlinear"
    elif problem.system.asymmetry or any(flux.term.weight != 1 for flux in fluxes):
        why = problem.system.asymmetry or "a weight before a divergence makes A unsymmetric"
    elif scheme.coarse != "galerkin":
        why = "the coarse operators are rediscretised; coarse='galerkin' gives a proof"
    elif "cells" in problem.kinds and scheme.prolongation != "constant":
        why = "means of cells are the adjoint of constant interpolation: prolongation='constant' gives a proof"
    elif scheme.smoother != "red-black":
        why = "proved for red-black Gauss–Seidel, which decreases the energy of every positive definite A"
    elif training.words - {"smoother"}:
        why = "trained transfers or gains: R need not be a multiple of Pᵀ, or the correction is scaled"
    elif scheme.recombine:
        why = "recombined iterates have the least residual, not the least energy"
    elif problem.reaction != 0:
        why = "the sign of the reaction decides whether A is positive definite"
    elif any(not p.is_positive for p in training.parameters):
        why = "a trained parameter may change its sign; declare it with positive=True"
    if why:
        return Result("energy decrease", "unknown", None, "–", "A", (), Witness(why))
    proof = "each part of the cycle is a projection or a sweep that decreases ⟨A(u − u*), u − u*⟩"
    factors = [flux.term.diffusivity for flux in fluxes]
    varying = dict.fromkeys(notation.show(g) for g in factors if g is not None and g.atoms(Data))
    assumptions = tuple(f"{g} > 0 at every node" for g in varying)
    return Result("energy decrease", "proved", None, "every cycle", "A", assumptions, Witness(proof))
