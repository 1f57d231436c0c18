"""`loom.lift`: the PDE that a trained network solves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import sympy as sp
from torch import Tensor

from ..compiler.bounds import own_stencils
from ..compiler.emit import reach, weight_name
from ..compiler.errors import DeclarationError, strict
from ..compiler.fields import Parameter
from ..compiler.lift import LONG, Moments, lifted
from ..compiler.notation import show

if TYPE_CHECKING:
    from .net import Net

NETS: WeakKeyDictionary[type, Net] = WeakKeyDictionary()
"""The network that every emitted class is."""


@dataclass(frozen=True)
class Lifted:
    """What the layers of a network solve, one entry per layer, or one if they share their weights.

    `equations` are sympy equations with the trained values in them, or tuples of them for a system, and `tau` the step
    sizes (empty for a steady problem); `values` the parameters by name, lists where every channel of a filter bank has
    its own. `order` is the highest derivative kept of trained stencils and filters, None where there are none: then
    nothing was approximated. `misfit` is the largest difference of their symbols to those of the operators they were
    read as, for waves of 16 nodes and longer, relative to the largest value of the symbol for all waves.
    """

    equations: tuple[Any, ...]
    tau: tuple[float, ...]
    values: tuple[dict[str, float | list[float]], ...]
    order: int | None
    misfit: float

    def __str__(self) -> str:
        lines = []
        for k, equation in enumerate(self.equations):
            step = f"layer {k}, τ = {self.tau[k]:.4g}:  " if self.tau else ""
            system = equation if isinstance(equation, tuple) else (equation,)
            lines.append(step + ";  ".join(f"{show(e.lhs)} = {show(_rounded(e.rhs))}" for e in system))
        note = "exactly"
        if self.order is not None:
            note = (
                f"up to derivatives of order {self.order} of stencils and filters, whose symbols they miss by up to "
                f"{self.misfit:.2g} of the largest value for waves of {LONG} nodes and longer"
            )
        return "\n".join([*lines, f"read back {note}"])


@strict
def lift(module: Any, order: int = 4) -> Lifted:
    """The PDE that a module solves with the weights it has now.

    Parameters and learned fluxes are read back exactly; a trained stencil, and any filter of a bank, as the operator of
    its moments, up to derivatives of `order`, from 1 to 8.

    Raises `DeclarationError` for modules that `Net.module` has not made, and for another order.
    """
    net = NETS.get(type(module))
    if net is None:
        raise DeclarationError(
            f"lift({type(module).__name__}): not a module of a compiled network; make it with net.module() or "
            f"loom.load(folder).module()"
        )
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= 8:
        raise DeclarationError(f"lift(order={order!r}): the highest derivative to keep, from 1 to 8")
    compiled = net.compiled
    system, learned = compiled.system, bool(getattr(compiled.training, "stencils", False))
    every = trained_values(net, module)
    layers = len(every)
    taus = () if compiled.elliptic is not None else tuple(module.certificate()["tau"][:layers])
    equations, values, moments = [], [], Moments(order)
    for k, here in enumerate(every):
        stencils = {}
        if learned:
            for label, _ in own_stencils(system):
                weights = getattr(module, label).detach()
                weights = weights if weights.dim() == 1 else weights[k * len(weights) // layers]
                stencils[label] = [float(w) for w in weights]
        banks = {
            b.label: (kernels_of(module, b.label, k), mixture_of(module, b.label, k) if b.mixed else None)
            for b in system.banks
        }
        found = lifted(system, here, stencils, banks, moments)
        equations.append(found if system.width > 1 else found[0])
        values.append({p.name: v for p, v in here.items()})
    kept = order if learned or system.banks else None
    return Lifted(tuple(equations), taus, tuple(values), kept, moments.misfit)


def trained_values(net: Net, module: Any) -> list[dict[Parameter, float | list[float]]]:
    """The trained parameters, layer by layer, or once if all layers share them; lists where channels have their own."""
    compiled = net.compiled
    parameters = sorted(compiled.training.parameters, key=str)
    layers = 1 if compiled.training.shared or compiled.elliptic is not None else net.scheme.layers
    return [{p: _value(module, p, k) for p in parameters} for k in range(layers)]


def kernels_of(module: Any, label: str, k: int) -> np.ndarray:
    """The filters of step k: (C, inputs, taps)."""
    filters = getattr(module, label)
    filters = filters(k) if callable(filters) and not isinstance(filters, Tensor) else filters
    kernels: np.ndarray = filters.detach().double().cpu().numpy()
    return kernels


def mixture_of(module: Any, label: str, k: int) -> np.ndarray:
    """What the diffusivity of every channel of step k reads of all: (C, C)."""
    weights: np.ndarray = getattr(module, f"mix_{label}")(k).detach().double().cpu().numpy()
    return weights.reshape(weights.shape[:2])


def _value(module: Any, p: Parameter, k: int) -> float | list[float]:
    if hasattr(module, f"get_{p.name}"):
        value = getattr(module, f"get_{p.name}")(k).detach()
        return float(value) if value.dim() == 0 else [float(v) for v in value.flatten()]
    weight = getattr(module, weight_name(p)).detach()
    return float(weight.clamp(-reach(p), reach(p)).exp() if p.is_positive else weight)


def _rounded(e: sp.Expr) -> sp.Expr:
    return e.xreplace({n: sp.Float(f"{float(n):.4g}") for n in e.atoms(sp.Float)})
