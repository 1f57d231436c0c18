"""What is known of a multigrid cycle before it runs: energy decrease, and the factors of local Fourier analysis.

    energy decrease     A symmetric positive definite, A_H = R A P with R a multiple of Pᵀ, a smoother that decreases
                        the energy: then so does the cycle, ‖u⁺ − u*‖_A ≤ ‖u − u*‖_A, for the coarse correction is
                        an orthogonal projection in ⟨A·,·⟩ (Trottenberg, Oosterlee, Schüller, Multigrid, 2001, A.2.4)
    smoothing factor    the error that a sweep leaves of the frequencies a coarser grid cannot see: an estimate
    two-grid factor     the error that a cycle leaves if the coarser grid is solved exactly: an estimate

Whatever the weights of the smoother and the transfers, a fixed point of the cycle solves A(u) = b.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from . import notation
from .elliptic import Elliptic
from .errors import SchemeError, suggest
from .fields import Data
from .local_fourier import factors


@dataclass(frozen=True)
class CycleResult:
    """One statement about the cycle. `bound` is the factor where there is one; an estimate is never "proved"."""

    notion: str
    status: str
    bound: float | None
    formula: str
    norm: str
    assumptions: tuple[str, ...]
    witness: str


@dataclass(frozen=True)
class CycleReport:
    """All results, iterable; `factors` are the smoothing and two-grid factors, by name and level where they differ."""

    results: tuple[CycleResult, ...]
    factors: Mapping[str, float]
    governing: str = "energy decrease"
    warnings: tuple[str, ...] = ()
    tau_max: None = None

    def __iter__(self) -> Iterator[CycleResult]:
        return iter(self.results)

    def __getitem__(self, notion: str) -> CycleResult:
        for result in self.results:
            if result.notion == notion:
                return result
        raise SchemeError(f"no result for {notion!r}: {suggest(notion, [r.notion for r in self.results])}")

    def rows(self) -> list[tuple[str, ...]]:
        return [
            (r.notion, r.status, "–" if r.bound is None else f"{r.bound:.3g}", r.norm, r.formula) for r in self.results
        ]

    def __str__(self) -> str:
        header = ("notion", "status", "factor", "norm", "formula")
        rows = [header, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        for r in self.results:
            lines.append(f"\n{r.notion}: {r.status}. {r.witness}")
            lines += [f"  assumes {a}" for a in r.assumptions]
        return "\n".join(lines)


def judge(problem: Elliptic, trained: frozenset[str] = frozenset()) -> CycleReport:
    """Everything that is known of the cycle, when the `trained` parts of it may move."""
    found = {}
    for level in range(len(problem.semi) + 1):
        name = f" of level {level}" if problem.semi else ""
        found[f"smoothing factor{name}"], found[f"two-grid factor{name}"] = factors(problem, level)
    assumptions = ["estimate: the maximum over sampled frequencies, on an unbounded grid"]
    if not problem.linear:
        assumptions.append("the diffusivities and slopes are those at u = 0")
    if problem.problem.data and problem.stencil is None:
        assumptions.append("data lie in the middle of their bounds, or are 1")
    results = [_energy(problem, trained)]
    for name, norm, text in (
        ("smoothing factor", "spectral radius", "what a sweep leaves of the high frequencies"),
        ("two-grid factor", "spectral radius", "what a cycle leaves of the error, the next grid solved exactly"),
    ):
        worst = max(value for key, value in found.items() if key.startswith(name))
        results.append(
            CycleResult(
                name, "unknown", worst, f"estimate {worst:.3g}", norm, tuple(assumptions), f"{text}: {worst:.3g}"
            )
        )
    return CycleReport(tuple(results), found)


def _energy(problem: Elliptic, trained: frozenset[str]) -> CycleResult:
    scheme = problem.scheme
    why = ""
    if not problem.linear:
        why = "A is nonlinear"
    elif problem.system.asymmetry or any(flux.term.weight != 1 for flux in problem.system.fluxes):
        why = problem.system.asymmetry or "a weight before a divergence makes A unsymmetric"
    elif scheme.coarse != "galerkin":
        why = "the coarse operators are rediscretised; coarse='galerkin' gives a proof"
    elif scheme.smoother != "red-black":
        why = "proved for red-black Gauss–Seidel, which decreases the energy of every positive definite A"
    elif trained - {"smoother"}:
        why = "trained transfers or gains: R need not be a multiple of Pᵀ, or the correction is scaled"
    elif scheme.recombine:
        why = "recombined iterates have the least residual, not the least energy"
    elif problem.reaction != 0:
        why = "the sign of the reaction decides whether A is positive definite"
    if why:
        return CycleResult("energy decrease", "unknown", None, "–", "A", (), why)
    proof = "each part of the cycle is a projection or a sweep that decreases ⟨A(u − u*), u − u*⟩"
    factors = [flux.term.diffusivity for flux in problem.system.fluxes]
    varying = dict.fromkeys(notation.show(g) for g in factors if g is not None and g.atoms(Data))
    assumptions = tuple(f"{g} > 0 at every node" for g in varying)
    return CycleResult("energy decrease", "proved", None, "every cycle", "A", assumptions, proof)
