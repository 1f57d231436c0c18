"""The network as the user holds it: what was compiled, and everything one can do with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networkx as nx

from ..compiler import Compiled, compile_pde
from ..compiler.cycle_reference import CycleReference
from ..compiler.cycle_report import CycleReport
from ..compiler.discretise import FiniteDifference
from ..compiler.errors import CheckpointError, DeclarationError, SchemeError, strict, suggest
from ..compiler.explain import explain, explain_cycle
from ..compiler.fields import FluxWeight, Parameter
from ..compiler.graph import dump
from ..compiler.grid import Grid
from ..compiler.learned_flux import LearnedFlux
from ..compiler.passes import PIPELINE
from ..compiler.problem import PDE
from ..compiler.reference import Reference
from ..compiler.schemes import Scheme
from ..compiler.spaces import SPACES, Space
from ..compiler.stability import Report
from .spec import Spec, to_table, write_toml

FORMAT = 1


@strict
def compile(
    pde: PDE,
    grid: Grid | None = None,
    space: Space | None = None,
    scheme: Scheme | None = None,
    trainable: Sequence[Any] = (),
    shared: bool = False,
    guarantee: str | None = None,
    unstable: str = "refuse",
) -> Net:
    """Compile a PDE and a discretisation into the network that it is.

    `trainable` names parameters, learned fluxes ("flux" for all of them), "tau" and "stencil"; `shared` gives all
    steps one set of weights; `guarantee` is the notion of stability whose bound limits τ (default: the scheme's
    own); `unstable="allow"` lets a refuted scheme pass, with a warning in `net.stability`.
    """
    if not isinstance(pde, PDE):
        raise DeclarationError(f"compile({pde!r}): the first argument is a loom.PDE")
    if scheme is None or not isinstance(scheme, Scheme):
        raise SchemeError(f"compile(scheme={scheme!r}): choose a time scheme, such as loom.ForwardEuler(steps=10)")
    if unstable not in ("refuse", "allow"):
        raise SchemeError(f"compile(unstable={unstable!r}): {suggest(str(unstable), ['refuse', 'allow'])}")
    for name, given, kinds in (("grid", grid, (Grid,)), ("space", space, tuple(SPACES.values()))):
        if given is not None and not isinstance(given, kinds):
            expected = " or ".join(f"loom.{kind.__name__}(…)" for kind in kinds)
            raise DeclarationError(f"compile({name}={given!r}): expected {expected}")
    grid, space = grid or Grid(), space or FiniteDifference()
    if not isinstance(trainable, (str, list, tuple, set, frozenset, Parameter, LearnedFlux)):
        raise DeclarationError(f"compile(trainable={trainable!r}): give a list such as [lam, 'tau', 'stencil']")
    if not isinstance(shared, bool):
        raise DeclarationError(f"compile(shared={shared!r}): True or False")
    listed = [trainable] if isinstance(trainable, (str, Parameter, LearnedFlux)) else list(trainable)
    compiled = compile_pde(pde, grid, space, scheme, listed, bool(shared), guarantee, unstable)
    options = {
        "trainable": [name for item in listed for name in _spelled(item, compiled)],
        "shared": bool(shared),
        "guarantee": guarantee,
        "unstable": unstable,
    }
    return Net(compiled, pde, grid, space, scheme, options)


def _spelled(item: Any, compiled: Compiled) -> list[str]:
    """A trainable by name; learned fluxes, which a specification does not know, by the names of their parameters."""
    if isinstance(item, LearnedFlux):
        return [p.name for p in item.parameters]
    found = [p for p in compiled.problem.parameters if isinstance(p, FluxWeight) and item in ("flux", p.flux)]
    return [p.name for p in found] or [str(item)]


class Net:
    """A compiled network: `source`, `graph`, `stability`, `module()`, `reference`, `save`, `report`."""

    def __init__(
        self, compiled: Compiled, pde: PDE, grid: Grid, space: Space, scheme: Scheme, options: dict[str, Any]
    ) -> None:
        self._compiled = compiled
        self.pde, self.grid, self.space, self.scheme, self.options = pde, grid, space, scheme, options
        self.reference: Reference | CycleReference = compiled.reference()
        """`reference(u0, **data)`: the same scheme in NumPy float64, shapes (B, 1, *grid)."""

    def __repr__(self) -> str:
        governing = self.stability[self.stability.governing]
        return (
            f"<Net {self.name}: {self.architecture}, {self.scheme.layers} {self.scheme.unit}s, "
            f"{governing.notion} {governing.status}>"
        )

    @property
    def name(self) -> str:
        return self._compiled.name

    @property
    def compiled(self) -> Compiled:
        return self._compiled

    @property
    def architecture(self) -> str:
        """ "ResNet", "RNN", "U-net", …: what the scheme is as a network."""
        return self.scheme.architecture

    def explain(self) -> str:
        """Which network this is, and which part of the scheme each part of it is."""
        compiled = self._compiled
        if compiled.elliptic is not None:
            return explain_cycle(self.name, compiled.elliptic)
        return explain(self.name, compiled.system, self.scheme, compiled.plan)

    @property
    def source(self) -> str:
        """The emitted Python, importing torch alone."""
        return self._compiled.source

    @property
    def graph(self) -> nx.DiGraph:
        """The graph of one step after all passes; of a steady problem, of one multigrid cycle."""
        return self._compiled.graph

    def dump(self, after: str = PIPELINE[-1][0]) -> str:
        """The graph as text after a pass ("built" for the graph as traced)."""
        stages = dict(self._compiled.stages)
        if after not in stages:
            raise DeclarationError(f"dump(after={after!r}): {suggest(after, stages)}")
        return dump(stages[after])

    @property
    def stability(self) -> Report | CycleReport:
        return self._compiled.report

    @strict
    def module(self, dtype: Any = None, device: Any = None) -> Any:
        """A fresh `torch.nn.Module` with the initial weights (float32 on the CPU by default).

        Raises `DeclarationError` for numbers of the PDE that are 0 or infinite in `dtype`.
        """
        import torch

        from .lift import NETS
        from .load import build

        built = build(self.source, dtype, device)
        range_of = torch.finfo(dtype or torch.float32)
        self._compiled.problem.check_numbers(f"module(dtype=torch.{range_of.dtype})", range_of.tiny, range_of.max)
        NETS[type(built)] = self
        return built

    def spec(self) -> dict[str, Any]:
        """The specification as a table, such as stands in TOML."""
        return to_table(self.pde, self.grid, self.space, self.scheme, self.options)

    def save(self, folder: str | Path, module: Any = None, train: dict[str, Any] | None = None) -> Path:
        """Write source, specification, weights and certificate.

        `module` is a trained one (default: fresh), `train` the [train] table it was trained with.
        """
        import torch
        from safetensors.torch import save

        from .load import write_atomic

        if not isinstance(folder, (str, Path)) or (Path(folder).exists() and not Path(folder).is_dir()):
            raise CheckpointError(f"save({str(folder)!r}): give the path of a folder, new or old")
        folder = Path(folder)
        module = self.module(dtype=torch.float64) if module is None else module
        self._check_own("save", module)
        state = {k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}
        if broken := next((k for k, v in state.items() if not v.isfinite().all()), None):
            raise CheckpointError(f"save: the weight {broken} is not finite; nothing was written")
        weights = save(state)
        record = {
            "format": FORMAT,
            "class": self.name,
            "source": _digest(self.source.encode()),
            "weights": _digest(weights),
            "certificate": plain(module.certificate()),
        }
        certificate = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        spec = write_toml({**self.spec(), **({"train": train} if train else {})})
        try:
            write_atomic(folder / "net.py", self.source)
            write_atomic(folder / "spec.toml", spec)
            write_atomic(folder / "weights.safetensors", weights)
            write_atomic(folder / "certificate.json", certificate)
        except OSError as error:
            raise CheckpointError(f"save({str(folder)!r}): {error.strerror}; give another folder") from None
        return folder

    def report(self, path: str | Path, module: Any = None) -> Path:
        """Write one self-contained HTML page: PDE, stencils, graph, stability, code."""
        from .report import write_report

        if not isinstance(path, (str, Path)) or Path(path).is_dir():
            raise CheckpointError(f"report({str(path)!r}): give the path of a file, such as 'report.html'")
        if module is not None:
            self._check_own("report", module)
        try:
            return write_report(self, Path(path), module)
        except OSError as error:
            raise CheckpointError(f"report({str(path)!r}): {error.strerror}; give another path") from None

    def _check_own(self, what: str, module: Any) -> None:
        """Refuse a module that has not the weights of this network."""
        if type(module).__name__ == self.name and hasattr(module, "certificate"):
            weights = {k: tuple(v.shape) for k, v in module.state_dict().items()}
            if weights == {k: tuple(v.shape) for k, v in self.module().state_dict().items()}:
                return
        raise CheckpointError(f"{what}(module={type(module).__name__}): not a module of this network, {self.name}")


class Saved:
    """A network read back: `net`, `module(dtype=…)` with the saved weights, and `save` and `report` of these; the rest
    is that of `net`, the network before training."""

    def __init__(self, net: Net, weights: dict[str, Any], certificate: dict[str, Any]) -> None:
        self.net, self._weights, self.certificate = net, weights, certificate

    def __getattr__(self, name: str) -> Any:
        if name in ("net", "_weights", "certificate") or name.startswith("__"):  # not there yet while it is copied
            raise AttributeError(name)
        return getattr(self.net, name)

    @property
    def reference(self) -> Reference | CycleReference:
        """That of the network, where its weights are those before training."""
        if self._weights:
            import torch

            initial = self.net.module(next(iter(self._weights.values())).dtype).state_dict()
            if all(torch.equal(w, initial[name]) for name, w in self._weights.items()):
                return self.net.reference
            raise CheckpointError(
                "reference: it is computed with the weights before training; use module(), or net.reference for those"
            )
        return self.net.reference

    def save(self, folder: str | Path, module: Any = None, train: dict[str, Any] | None = None) -> Path:
        """`Net.save`, of the saved weights unless another module is given."""
        return self.net.save(folder, self._own() if module is None else module, train)

    def report(self, path: str | Path, module: Any = None) -> Path:
        """`Net.report`, of the saved weights unless another module is given."""
        return self.net.report(path, self._own() if module is None else module)

    def _own(self) -> Any:
        return self.module(next((w.dtype for w in self._weights.values()), None))

    @strict
    def module(self, dtype: Any = None, device: Any = None) -> Any:
        """A module with the saved weights."""
        module = self.net.module(dtype, device)
        module.load_state_dict(self._weights)
        return module


@strict
def load(folder: str | Path) -> Saved:
    """Read a network that `Net.save` wrote; runs no code but what the compiler emits again from the spec.

    Raises `CheckpointError` when a file is missing or damaged, when the source is not what this version emits, or
    when weights or certificate were changed after saving.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as read

    if not isinstance(folder, (str, Path)):
        raise CheckpointError(f"load({folder!r}): give the folder that Net.save wrote")
    folder = Path(folder)
    contents = {}
    for name in ("net.py", "spec.toml", "weights.safetensors", "certificate.json"):
        try:
            contents[name] = (folder / name).read_bytes()
        except OSError as error:
            cure = "save the network again"
            if (folder / "last.safetensors").exists():
                cure = "it holds a run of fit; save its module there with net.save(folder, fitted.module)"
            raise CheckpointError(f"{folder}: cannot read {name} ({error.strerror}); {cure}") from None
    try:
        record = json.loads(contents["certificate.json"])
        expected = {key: record[key] for key in ("format", "class", "source", "weights", "certificate")}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{folder}/certificate.json is damaged ({error!r}); save the network again") from None
    if expected["format"] != FORMAT:
        raise CheckpointError(f"{folder} has format {expected['format']!r}, this version reads {FORMAT}; save it again")
    weights = contents["weights.safetensors"]
    from .load import alike
    from .spec import read_spec

    net = from_spec(read_spec(folder / "spec.toml"))
    digest = _digest(contents["net.py"])
    text = contents["net.py"].decode(errors="replace")
    if not alike(text, net.source) or expected["source"] != digest or expected["class"] != net.name:
        raise CheckpointError(
            f"{folder}/net.py is not what this version of pdeloom emits for spec.toml: it was edited or comes from "
            f"another version. Restore it, or import it yourself if you trust it"
        )
    if _digest(weights) != expected["weights"]:
        raise CheckpointError(
            f"{folder}/weights.safetensors was changed after saving: its certificate is stale; save again"
        )
    try:
        state = read(weights)
        saved = Saved(net, state, expected["certificate"])
        recomputed = saved.module(dtype=next(iter(state.values())).dtype if state else None).certificate()
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{folder}/weights.safetensors does not fit the network: {error}") from None
    if not alike(json.loads(json.dumps(plain(recomputed))), expected["certificate"]):
        raise CheckpointError(
            f"{folder}/certificate.json does not hold for the weights beside it; save the network again"
        )
    return saved


PRETRAINED = Path(__file__).parent / "pretrained"


@strict
def pretrained(name: str) -> Saved:
    """A trained network that comes with the package: "denoiser-norm-stable-25" (arm and σ of docs/denoising.md).

    It is compiled from its specification, gets its weights, and has the certificate that they have. Raises
    `CheckpointError` for a name that there is not.
    """
    from safetensors.torch import load as read

    from .spec import read_spec

    known = sorted(folder.name for folder in PRETRAINED.iterdir() if (folder / "spec.toml").exists())
    if name not in known:
        raise CheckpointError(f"{name!r} is no folder and no network of the package: {suggest(str(name), known)}")
    net = from_spec(read_spec(PRETRAINED / name / "spec.toml"))
    saved = Saved(net, read((PRETRAINED / name / "weights.safetensors").read_bytes()), {})
    saved.certificate = saved.module().certificate()
    return saved


def from_spec(spec: Spec) -> Net:
    """Compile what a specification says."""
    return compile(**spec.arguments())


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def plain(value: Any) -> Any:
    """A certificate for JSON, which has no infinity: it is written "inf"."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return "inf" if value == math.inf else value
