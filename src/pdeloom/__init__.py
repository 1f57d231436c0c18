"""pdeloom compiles a symbolic PDE and a choice of discretisation into the neural network that it is.

    import pdeloom as loom
    from sympy import Eq

    x, y = loom.coordinates("x y")
    u = loom.field("u", x, y)
    lam = loom.parameter("lam", 0.05, positive=True)
    g = loom.diffusivity("perona-malik", lam)
    pde = loom.PDE(Eq(loom.dt(u), loom.div(g(loom.norm2(loom.grad(u))) * loom.grad(u))), boundary=loom.NoFlux())
    net = loom.compile(pde, scheme=loom.ForwardEuler(steps=10), trainable=[lam, "tau"])

Names are imported when they are first used, so `import pdeloom` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler.discretise import FiniteDifference as FiniteDifference
    from .compiler.discretise import FiniteVolume as FiniteVolume
    from .compiler.errors import BoundaryError as BoundaryError
    from .compiler.errors import CheckpointError as CheckpointError
    from .compiler.errors import ConvergenceError as ConvergenceError
    from .compiler.errors import DataError as DataError
    from .compiler.errors import DeclarationError as DeclarationError
    from .compiler.errors import DiscretisationError as DiscretisationError
    from .compiler.errors import ParseError as ParseError
    from .compiler.errors import PdeloomError as PdeloomError
    from .compiler.errors import SchemeError as SchemeError
    from .compiler.errors import SpecError as SpecError
    from .compiler.errors import TrainingError as TrainingError
    from .compiler.errors import UnknownKeywordError as UnknownKeywordError
    from .compiler.errors import UnstableSchemeError as UnstableSchemeError
    from .compiler.errors import UnsupportedTermError as UnsupportedTermError
    from .compiler.fields import coordinates as coordinates
    from .compiler.fields import d as d
    from .compiler.fields import data as data
    from .compiler.fields import div as div
    from .compiler.fields import dt as dt
    from .compiler.fields import field as field
    from .compiler.fields import grad as grad
    from .compiler.fields import laplacian as laplacian
    from .compiler.fields import norm2 as norm2
    from .compiler.fields import parameter as parameter
    from .compiler.fields import t as t
    from .compiler.filter_bank import FilterBank as FilterBank
    from .compiler.grid import Boundary as Boundary
    from .compiler.grid import Dirichlet as Dirichlet
    from .compiler.grid import Grid as Grid
    from .compiler.grid import Neumann as Neumann
    from .compiler.grid import NoFlux as NoFlux
    from .compiler.grid import Periodic as Periodic
    from .compiler.grid import Robin as Robin
    from .compiler.grid import Side as Side
    from .compiler.grid import boundary as boundary
    from .compiler.learned_flux import LearnedFlux as LearnedFlux
    from .compiler.learned_flux import learned_flux as learned_flux
    from .compiler.nonlinearity import diffusivity as diffusivity
    from .compiler.nonlinearity import named_diffusivity as named_diffusivity
    from .compiler.parse import parse as parse
    from .compiler.problem import PDE as PDE
    from .compiler.problem import gradient_flow as gradient_flow
    from .compiler.schemes import Scheme as Scheme
    from .compiler.schemes import scheme as scheme
    from .compiler.schemes.adams_bashforth import AdamsBashforth as AdamsBashforth
    from .compiler.schemes.du_fort_frankel import DuFortFrankel as DuFortFrankel
    from .compiler.schemes.fed import FED as FED
    from .compiler.schemes.forward_euler import ForwardEuler as ForwardEuler
    from .compiler.schemes.fsi import FSI as FSI
    from .compiler.schemes.heun import Heun as Heun
    from .compiler.schemes.implicit import BackwardEuler as BackwardEuler
    from .compiler.schemes.implicit import CrankNicolson as CrankNicolson
    from .compiler.schemes.implicit import SemiImplicit as SemiImplicit
    from .compiler.schemes.implicit import ThetaScheme as ThetaScheme
    from .compiler.schemes.leapfrog import Leapfrog as Leapfrog
    from .compiler.schemes.multigrid import Multigrid as Multigrid
    from .compiler.schemes.runge_kutta import RungeKutta as RungeKutta
    from .compiler.schemes.splitting import ADI as ADI
    from .compiler.schemes.splitting import AOS as AOS
    from .compiler.schemes.super_time_stepping import RKC as RKC
    from .compiler.schemes.super_time_stepping import RKL as RKL
    from .compiler.schemes.symplectic_euler import SymplecticEuler as SymplecticEuler
    from .compiler.solve import Solver as Solver
    from .compiler.solve import solve as solve
    from .compiler.tensors import coherence_enhancing as coherence_enhancing
    from .compiler.tensors import edge_enhancing as edge_enhancing
    from .compiler.tensors import smooth as smooth
    from .compiler.tensors import structure_tensor as structure_tensor
    from .compiler.tensors import tensor as tensor
    from .runtime.export import export as export
    from .runtime.export import exported_certificate as exported_certificate
    from .runtime.fit import fit as fit
    from .runtime.lift import Lifted as Lifted
    from .runtime.lift import lift as lift
    from .runtime.net import Net as Net
    from .runtime.net import compile as compile
    from .runtime.net import load as load
    from .runtime.net import pretrained as pretrained
    from .runtime.norms import bank_norm as bank_norm
    from .runtime.norms import parity_parts as parity_parts

_ROOMS = {
    "compiler.discretise": "FiniteDifference FiniteVolume",
    "compiler.filter_bank": "FilterBank",
    "compiler.errors": "BoundaryError CheckpointError ConvergenceError DataError DeclarationError DiscretisationError "
    "ParseError PdeloomError SchemeError SpecError TrainingError UnknownKeywordError UnstableSchemeError "
    "UnsupportedTermError",
    "compiler.fields": "coordinates d data div dt field grad laplacian norm2 parameter t",
    "compiler.grid": "Boundary Dirichlet Grid Neumann NoFlux Periodic Robin Side boundary",
    "compiler.learned_flux": "LearnedFlux learned_flux",
    "compiler.nonlinearity": "diffusivity named_diffusivity",
    "compiler.parse": "parse",
    "compiler.problem": "PDE gradient_flow",
    "compiler.schemes": "Scheme scheme",
    "compiler.schemes.adams_bashforth": "AdamsBashforth",
    "compiler.schemes.du_fort_frankel": "DuFortFrankel",
    "compiler.schemes.fed": "FED",
    "compiler.schemes.forward_euler": "ForwardEuler",
    "compiler.schemes.fsi": "FSI",
    "compiler.schemes.heun": "Heun",
    "compiler.schemes.implicit": "BackwardEuler CrankNicolson SemiImplicit ThetaScheme",
    "compiler.schemes.leapfrog": "Leapfrog",
    "compiler.schemes.multigrid": "Multigrid",
    "compiler.schemes.runge_kutta": "RungeKutta",
    "compiler.schemes.splitting": "ADI AOS",
    "compiler.schemes.super_time_stepping": "RKC RKL",
    "compiler.schemes.symplectic_euler": "SymplecticEuler",
    "compiler.solve": "Solver solve",
    "compiler.tensors": "coherence_enhancing edge_enhancing smooth structure_tensor tensor",
    "runtime.export": "export exported_certificate",
    "runtime.fit": "fit",
    "runtime.lift": "Lifted lift",
    "runtime.net": "Net compile load pretrained",
    "runtime.norms": "bank_norm parity_parts",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pdeloom' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
