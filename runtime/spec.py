"""The TOML file that says everything: the PDE, the grid, the scheme, what is trained and on what.

    [pde]          coordinates, fields, equation, boundary, data, tensors, staggered, name
    [parameters]   name = value, or name = { value = …, positive = true }
    [grid]         spacing, shape, centering, origin
    [space]        method = "finite-difference", order; "finite-volume", flux; or "filter-bank", channels, size, …
    [scheme]       name = "forward-euler", and its own keywords
    [compile]      trainable, shared, guarantee, unstable
    [train]        data, steps, batch, patch, sigma, rate, seed, …

Every wrong key or value is a `SpecError` that names the file, the key and the remedy.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..compiler.errors import DeclarationError, DiscretisationError, PdeloomError, SpecError, suggest
from ..compiler.filter_bank import FilterBank
from ..compiler.grid import Grid, exact
from ..compiler.parse import parse, unparse, unparse_boundary
from ..compiler.problem import PDE, canonical
from ..compiler.schemes import SCHEMES, Scheme
from ..compiler.spaces import SPACES, Space
from ..compiler.tensors import given_tensors


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class PDETable(_Table):
    coordinates: list[str]
    fields: list[str] | dict[str, list[float] | None]
    equation: str | list[str]
    boundary: str | dict[str, str | list[str] | dict[str, str | list[str]]]
    data: list[str] | dict[str, list[float] | None] = []
    tensors: dict[str, list[float]] = {}
    staggered: dict[str, str | list[str]] = {}
    name: str | None = None


class ParameterTable(_Table):
    value: float
    positive: bool = False


class GridTable(_Table):
    spacing: float | str | list[float | str] = 1.0
    shape: list[int] | None = None
    centering: Literal["vertex", "cell"] = "vertex"
    origin: float | list[float] = 0.0


class SpaceTable(_Table):
    method: Literal["finite-difference", "finite-volume", "filter-bank"] = "finite-difference"
    order: int | None = None
    closure: str | None = None
    flux: str | None = None
    reconstruction: str | None = None
    channels: int | None = None
    size: int | None = None
    init: str | None = None
    joint: bool | str | None = None
    symmetric: bool | str | None = None
    zero_mean: bool | None = None
    own_fluxes: bool | None = None
    seed: int | None = None

    def build(self) -> Space:
        """The discretisation; a key of another method is an error."""
        cls = SPACES[self.method]
        own = [f.name for f in fields(cls)]
        given = self.model_dump(exclude={"method"}, exclude_none=True)
        other = next((key for key in given if key not in own), None)
        if other is not None:
            raise DiscretisationError(f"method = {self.method!r} does not read {other!r}; it reads {', '.join(own)}")
        if cls is FilterBank and "channels" not in given:
            raise DiscretisationError("method = 'filter-bank' needs channels, the number of filters")
        return cls(**given)


class SchemeTable(BaseModel):
    """The scheme's name; its other keys are the scheme's own and checked by it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str


class CompileTable(_Table):
    trainable: list[str] = []
    shared: bool = False
    guarantee: str | None = None
    unstable: Literal["refuse", "allow"] = "refuse"


Positive = Annotated[float, Field(gt=0)]


class TrainTable(_Table):
    """How to train; the keywords of `pdeloom.fit`."""

    data: str = "skimage"
    steps: int = Field(1000, ge=1)
    batch: int = Field(16, ge=1)
    patch: int = Field(64, ge=4)
    sigma: Positive | Annotated[list[Positive], Field(min_length=2, max_length=2)] = 25 / 255
    rate: float = Field(0.05, gt=0)
    seed: int = Field(0, ge=0)
    out: str = "out/train"
    save_every: int = Field(100, ge=1)
    observed: str | list[str] | None = None
    level: str | None = None
    schedule: Literal["cosine", "constant"] = "cosine"
    loss: Literal["mse", "mae", "psnr"] = "mse"
    clip: float | None = Field(None, gt=0)
    average: float | None = Field(None, gt=0, lt=1)
    patience: int | None = Field(None, ge=1)
    greedy: int | None = Field(None, ge=1)
    precision: Literal["32-true", "64-true", "bf16-mixed"] = "32-true"
    devices: int = Field(1, ge=1)
    accelerator: str = "cpu"


class Spec(_Table):
    """A whole specification."""

    pde: PDETable
    parameters: dict[str, float | ParameterTable] = {}
    grid: GridTable = GridTable()
    space: SpaceTable = SpaceTable()
    scheme: SchemeTable
    compile: CompileTable = CompileTable()
    train: TrainTable | None = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of `pdeloom.compile`."""
        parameters = {k: v if isinstance(v, float) else v.model_dump() for k, v in self.parameters.items()}
        pde = parse(
            self.pde.equation,
            coordinates=self.pde.coordinates,
            fields=self.pde.fields,
            boundary=self.pde.boundary,
            parameters=parameters,
            data=self.pde.data,
            tensors=self.pde.tensors,
            staggered=self.pde.staggered,
            name=self.pde.name,
        )
        text = self.pde.equation if isinstance(self.pde.equation, str) else " ".join(self.pde.equation)
        for key in (*self.parameters, *self.pde.fields, *self.pde.data, *self.pde.tensors):
            entry = r"(_\w+)?" if key in self.pde.tensors else ""
            read = f"{text} {self.pde.boundary}" if key in self.pde.data else text  # walls may read data
            if not re.search(rf"\b{re.escape(key)}{entry}\b", read):
                raise DeclarationError(f"{key!r} is declared but does not occur in the equation; remove it or use it")
        listed = self.grid.spacing if isinstance(self.grid.spacing, list) else [self.grid.spacing]
        try:
            spacings = tuple(Fraction(h) if isinstance(h, str) else h for h in listed)
        except (ValueError, ZeroDivisionError):
            raise DiscretisationError(
                f"spacing = {self.grid.spacing!r}: give a number or a fraction such as '1/3'"
            ) from None
        spacing: Any = spacings if isinstance(self.grid.spacing, list) else spacings[0]
        shape = None if self.grid.shape is None else tuple(self.grid.shape)
        keywords = dict(self.scheme.model_extra or {})
        return {
            "pde": pde,
            "grid": Grid(spacing=spacing, shape=shape, centering=self.grid.centering, origin=self.grid.origin),
            "space": self.space.build(),
            "scheme": SCHEMES[self.scheme.name](**keywords),
            "trainable": self.compile.trainable,
            "shared": self.compile.shared,
            "guarantee": self.compile.guarantee,
            "unstable": self.compile.unstable,
        }


def read_spec(path: str | Path) -> Spec:
    """Read and check a TOML file."""
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; give the path of a TOML specification") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SpecError(f"{path}: not a readable TOML file: {error}") from None
    return check_spec(table, str(path))


def check_spec(table: dict[str, Any], where: str) -> Spec:
    """Check a table as read from TOML; errors name `where` and the key."""
    try:
        spec = Spec.model_validate(table)
    except ValidationError as error:
        raise SpecError(f"{where}: {_explain(error, table)}") from None
    try:
        spec.arguments()
    except SpecError:
        raise
    except PdeloomError as error:
        raise located(error, where) from None
    return spec


_KEYS = {
    "ParseError": "[pde] equation: ",
    "UnsupportedTermError": "[pde] equation: ",
    "BoundaryError": "[pde] boundary: ",
    "SchemeError": "[scheme]: ",
    "UnknownKeywordError": "[scheme]: ",
    "UnstableSchemeError": "[scheme] tau: ",
    "DiscretisationError": "[grid] or [space]: ",
}


def located(error: PdeloomError, where: str) -> SpecError:
    """The error with the file and, where its type tells it, the key."""
    return (
        error if isinstance(error, SpecError) else SpecError(f"{where}: {_KEYS.get(type(error).__name__, '')}{error}")
    )


def _explain(error: ValidationError, table: dict[str, Any]) -> str:
    first = error.errors()[0]
    location = [
        str(part)
        for part in first["loc"]
        if not str(part).endswith(("]", "Table")) and part not in ("float", "str", "bool")
    ]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        model: Any = Spec
        for part in location[:-1]:
            annotation = model.model_fields[part].annotation if part in model.model_fields else None
            models = [
                m
                for m in (annotation, *getattr(annotation, "__args__", ()))
                if isinstance(m, type) and issubclass(m, BaseModel)
            ]
            model = models[0] if models else ParameterTable
        return f"unknown key {key}; {suggest(location[-1], model.model_fields)}"
    if first["type"] == "missing":
        return f"missing key {key}; add it (see docs/language.md)"
    return f"{key}: {first['msg'].lower()}, got {first['input']!r}"


def to_table(pde: PDE, grid: Grid, space: Space, scheme: Scheme, options: dict[str, Any]) -> dict[str, Any]:
    """The specification of a network as a TOML-ready table, read back by `check_spec` without loss."""
    problem = canonical(pde)
    listed = _named([f for f in problem.data if not hasattr(f.func, "tensor")])
    tensors = {name: [low, high] for name, (_, low, high) in given_tensors(problem.data).items()}
    names = [str(x) for x in problem.coordinates]
    staggered = {
        str(u.func): [x for x, half in zip(names, shift, strict=True) if half]
        for u, shift in zip(problem.unknowns, problem.shifts, strict=True)
        if any(shift)
    }
    table: dict[str, Any] = {
        "pde": {
            "coordinates": names,
            "fields": _named(problem.unknowns),
            "equation": [unparse(e) for e in pde.equations] if len(pde.equations) > 1 else unparse(pde.equations[0]),
            "boundary": unparse_boundary(pde),
            **({"data": listed} if listed else {}),
            **({"tensors": tensors} if tensors else {}),
            **({"staggered": staggered} if staggered else {}),
            **({"name": pde.name} if pde.name else {}),
        },
        "parameters": {p.name: {"value": p.value, "positive": bool(p.is_positive)} for p in problem.parameters},
        "grid": {
            "spacing": [_number(h) for h in grid.spacing]
            if isinstance(grid.spacing, (tuple, list))
            else _number(grid.spacing),
            **({"shape": list(grid.shape)} if grid.shape else {}),
            "centering": grid.centering,
            **({"origin": _origin(grid.origin)} if grid.origin else {}),
        },
        "space": {"method": next(name for name, cls in SPACES.items() if type(space) is cls), **asdict(space)},
        "scheme": {"name": scheme.name, **scheme.table()},
        "compile": {key: value for key, value in options.items() if value is not None},
    }
    return table


def _named(functions: Sequence[Any]) -> list[str] | dict[str, list[float]]:
    """Names, with bounds where any are declared; [] stands for none."""
    bounds = {str(f.func): getattr(f.func, "bounds", None) for f in functions}
    return {name: list(b or ()) for name, b in bounds.items()} if any(bounds.values()) else list(bounds)


def _origin(given: Any) -> float | list[float]:
    return [float(v) for v in given] if isinstance(given, (tuple, list)) else float(given)


def _number(h: Any) -> float | str:
    """A float, or a fraction that no float is."""
    return f"{h.numerator}/{h.denominator}" if isinstance(h, Fraction) and exact(float(h)) != h else float(h)


def write_toml(table: dict[str, Any]) -> str:
    """A table of tables as TOML text."""

    def value(v: Any) -> str:
        if isinstance(v, bool):
            return "true" if v else "false"
        if isinstance(v, str):
            return '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if isinstance(v, (list, tuple)):
            return "[" + ", ".join(map(value, v)) + "]"
        if isinstance(v, dict):
            return "{ " + ", ".join(f"{k} = {value(x)}" for k, x in v.items()) + " }"
        return repr(v)

    blocks = []
    for name, content in table.items():
        if content:
            blocks.append(f"[{name}]\n" + "".join(f"{k} = {value(v)}\n" for k, v in content.items()))
    return "\n".join(blocks)
