"""What a time scheme is.

A scheme is a frozen dataclass with one method, `step`, in the paper's notation: it uses nothing but `f(u)`, `+`, `-`,
`scalar * u` and, if it is implicit, `solve`. Called with graph values it builds the network, with NumPy arrays it is
the reference solution, with elements of ℚ(z) it is the amplification polynomial from which its stability interval
follows, and with formal values it says where it evaluates f, which is what the proofs rest on.

    @scheme("heun")
    @dataclass(frozen=True)
    class Heun(Scheme):
        steps: int
        tau: float | str = "auto"

        def step(self, f, u, tau):
            k = f(u)
            return u + tau / 2 * (k + f(u + tau * k))

A multistep scheme takes the earlier states after τ, newest first (`step(self, f, u, tau, old)`), and says in `start`
where they come from. A scheme whose coefficients change from layer to layer returns them by name from `schedule` and
takes them as keywords (`step(self, f, u, tau, old, *, a)`); after `cycle` layers it starts again.

`f.frozen(u)` is the linearisation v ↦ −Σ K*G(u)K v + r(u), `f.split()` are the parts of f along the axes, and
`f.fields()` those of the fields, each 0 for all others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache, cached_property
from typing import Any, ClassVar, TypeVar

import sympy as sp

from ..errors import SchemeError
from ..fields import t
from ..registry import Registry
from ..solve import Solver
from .amplification import Interval, OneStep, Recurrence, amplify, turned
from .formal import Structure, structure


class Scheme:
    """Base of all time schemes: fields `steps` (or `cycles` and `length`) and `tau`, and what a scheme says of itself.

    `time_orders` are the orders in time it serves, `accuracy` its order of accuracy for smooth solutions, `title` its
    name in a sentence, `formula` its update. `relaxation` names a coefficient that must be a part of the spectral
    bound (α of Du Fort–Frankel). `stride` is what tau="auto" takes where no bound limits τ, in explicit steps 2/ρ.
    """

    name: ClassVar[str]
    time_orders: ClassVar[tuple[int, ...]] = (1,)
    accuracy: ClassVar[int] = 1
    title: ClassVar[str] = ""
    formula: ClassVar[str] = "u^{k+1} = step(f, u^k, τ)"
    citation: ClassVar[str] = ""
    ssp: ClassVar[int] = 0
    """1 if a step is a mean of Euler steps of its own τ: strong-stability preserving (Shu, Osher, 1988)."""
    starting_steps: ClassVar[int] = 0
    """How many steps `start` takes itself."""
    relaxation: ClassVar[str | None] = None
    stride: ClassVar[float] = 10.0
    freeze: Any = None
    """"cycle": the diffusivities of a whole cycle, or of all stages of a step, are those of its first state."""

    tau: Any

    def __init_subclass__(cls) -> None:
        if cls.title == "":
            cls.title = cls.__name__

    def __post_init__(self) -> None:
        if not self.__dataclass_params__.frozen:  # type: ignore[attr-defined]
            raise SchemeError(f"{type(self).__name__}: put @dataclass(frozen=True) on it; a scheme must not change")
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            if hasattr(value, "item") and not getattr(value, "shape", None):  # NumPy scalars are as good as Python's
                object.__setattr__(self, f.name, value.item())
            elif getattr(value, "shape", None) or (isinstance(value, (list, set, dict)) and f.name != "solver"):
                raise SchemeError(f"{type(self).__name__}({f.name}={value!r}): give one value, not an array or a list")
            if f.name == "solver":
                object.__setattr__(self, f.name, Solver.of(_scheme_of(value)))
        for name in ("steps", "cycles", "length", "stages"):
            if name in {f.name for f in fields(self)}:  # type: ignore[arg-type]
                self._whole(name, 1)
        if self.freeze is not None:
            self._choice("freeze", (None, "cycle"))
        if self.tau != "auto":
            self._positive("tau", "a positive number or 'auto'")

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 10**6:
            raise SchemeError(
                f"{type(self).__name__}({name}={value!r}): give a whole number of {name} from {least} to 1000000"
            )

    def _positive(self, name: str, wanted: str) -> None:
        value = getattr(self, name)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not 0 < value < 1e30:
            raise SchemeError(f"{type(self).__name__}({name}={value!r}): {name} must be {wanted}")

    def _choice(self, name: str, valid: Sequence[Any]) -> None:
        value = getattr(self, name)
        if isinstance(value, (bool, float)) or value not in valid:
            raise SchemeError(f"{type(self).__name__}({name}={value!r}): valid: {', '.join(map(str, valid))}")

    # --- what a scheme defines ------------------------------------------------------------------------------

    def step(self, f: Any, u: Any, tau: Any, *previous: Any, **coefficients: Any) -> Any:
        """One layer: the new state from u and the earlier states."""
        raise NotImplementedError

    def start(self, f: Any, u: Any, tau: Any) -> tuple[Any, ...]:
        """The states to begin with, newest first: u^{−1} = u^0 unless the scheme says otherwise.

        A scheme of second order in time takes the velocity as a fourth argument.
        """
        earlier = getattr(u, "earlier", lambda time: u)
        return (u, *(earlier(i * tau) for i in range(1, 1 + self.memory)))

    def schedule(self) -> Mapping[str, Sequence[float]]:
        """Coefficients by name, one value per layer of a cycle: what makes a scheme cyclic."""
        return {}

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the scheme's own scalars: scheduled coefficients, and the relaxation coefficient."""
        return (*self.schedule(), *([self.relaxation] if self.relaxation else []))

    @property
    def cycle(self) -> int:
        """Layers until the scheme starts again from its newest state alone."""
        return 1

    @property
    def cyclic(self) -> bool:
        """Does the scheme run in cycles?"""
        return bool(self.schedule())

    @property
    def anchored(self) -> bool:
        """Does a layer read the state that its cycle started from?"""
        return self.cyclic and self.freeze == "cycle"

    def advance(self, tau: Any, time_order: int = 1) -> sp.Expr:
        """How far a layer goes in time: the scheme itself, run on t' = 1, or on t'' = 0."""
        own = {name: sp.Symbol(name, positive=True) for name in self.own}
        old = [t - i * tau for i in range(self.memory + 1)]
        rate = sp.S.One if time_order == 1 else sp.S.Zero
        return sp.simplify(self.step(_Clock(rate), *old[:1], tau, *old[1:], **own) - t)

    def begins(self, tau: Any) -> tuple[sp.Expr, ...]:
        """The times of the states that `start` gives."""
        velocity = (sp.S.One,) if self.time_orders == (2,) else ()
        rate = sp.S.Zero if velocity else sp.S.One
        return tuple(sp.expand(state) for state in self.start(_Clock(rate), t, tau, *velocity))

    # --- what follows from it -------------------------------------------------------------------------------

    @property
    def layers(self) -> int:
        """The number of layers of the network."""
        return int(self.cycles * self.cycle) if hasattr(self, "cycles") else int(self.steps)  # type: ignore[attr-defined]

    def table(self) -> dict[str, Any]:
        """The fields as they stand in TOML, which has no None; a solver by its keywords."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {k: v.table() if isinstance(v, Solver) else v for k, v in values.items() if v is not None}

    @property
    def inside(self) -> Any:
        """The multigrid cycles that solve the steps, or None."""
        return getattr(getattr(self, "solver", None), "cycles", None)

    @property
    def unit(self) -> str:
        """What a layer is called."""
        return "layer" if self.cyclic else "step"

    @cached_property
    def memory(self) -> int:
        """How many earlier states a step reads, from the signature of `step`."""
        kinds = [p.kind for p in inspect.signature(self.step).parameters.values()]
        return sum(kind not in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD) for kind in kinds) - 3

    def coefficients(self, k: int) -> dict[str, float]:
        """The scheduled coefficients of layer k."""
        return {name: values[k % self.cycle] for name, values in self.schedule().items()}

    def march(
        self, f: Any, u: Any, tau: Any, layers: int, velocity: tuple[Any, ...] = (), **fixed: Any
    ) -> tuple[Any, ...]:
        """Run `layers` layers from u; returns the states, newest first."""
        states, g = tuple(self.start(f, u, tau, *velocity)), f
        for k in range(self.starting_steps, layers):
            if self.cyclic and k % self.cycle == 0:
                states = (states[0],) * len(states)
                g = f.frozen(states[0]) if self.anchored else f
            new = self.step(g, states[0], tau, *states[1:], **fixed, **self.coefficients(k))
            states = (new, *states[:-1])
        return states

    @cache  # noqa: B019 (schemes are small, frozen and few)
    def structured(self, dimension: int) -> Structure:
        """Where a step evaluates f, in `dimension` axes: see formal.py."""
        return structure(self, dimension)

    @property
    def structure(self) -> Structure:
        return self.structured(2)

    @cache  # noqa: B019
    def amplified(self, dimension: int = 1) -> OneStep | Recurrence:
        """The scheme on u' = λu, run on elements of ℚ(z₁, …, z_d)."""
        return amplify(self, dimension)

    def amplification(self, z: sp.Symbol) -> sp.Expr:
        """R(z) for the linear problem f(u) = λu, z = τλ; of a whole cycle where the scheme has one.

        A multistep scheme gives its characteristic polynomial in ξ.

        >>> from pdeloom.compiler.schemes.forward_euler import ForwardEuler
        >>> ForwardEuler(steps=1).amplification(sp.Symbol("z"))
        z + 1
        """
        return self.amplified().expression(z)

    def real_interval(self) -> sp.Expr:
        """The largest x so that the scheme is power bounded for z = −y, 0 ≤ y ≤ x: exact, or the last rational below.

        >>> from pdeloom.compiler.schemes.forward_euler import ForwardEuler
        >>> ForwardEuler(steps=1).real_interval()
        2
        """
        return self.interval.end

    @cached_property
    def interval(self) -> Interval:
        """The real stability interval, for a scheme with a relaxation coefficient α in units of λ/α."""
        return self.amplified().real_interval()

    @cached_property
    def turned(self) -> tuple[Interval, sp.Expr]:
        """How far τσ may go where two fields u' = −σv, v' = σu take turns, and the trace of a step."""
        return turned(self)

    def imaginary_interval(self) -> sp.Expr:
        """The largest x with |R(iy)| ≤ 1 (or the roots in the unit disc) for 0 ≤ y ≤ x."""
        return self.amplified().imaginary_interval().end

    @property
    def euler(self) -> bool:
        """Is a step u + τf(u)?"""
        seen = self.structure
        return seen.plain and not (seen.frozen or seen.solves or seen.turns) and self.amplified().euler

    @property
    def architecture(self) -> str:
        """ResNet, perhaps reversible or with long skips, RNN, or U-net where multigrid solves the steps."""
        if self.inside is not None:
            return "U-net"
        if self.structure.solves:
            return "RNN"
        if self.structure.turns:
            return "reversible ResNet"
        return "ResNet with long skips" if self.memory else "ResNet"

    @property
    def governing(self) -> str:
        """The notion whose bound chooses τ: norm decrease where it can be proved for nonlinear f, else the power
        boundedness of the frozen operator."""
        alike = not self.structure.parts or self.amplified(2).additive
        return "norm decrease" if self.structure.one_operator and alike else POWER

    @classmethod
    def example(cls) -> Scheme:
        """An instance with the smallest arguments: every field without a default is 2."""
        return cls(**{f.name: 2 for f in fields(cls) if f.default is MISSING})  # type: ignore[arg-type]

    def explain(self) -> str:
        """Which network the scheme is, and why."""
        if self.inside is not None:
            return f"A step of {self.title} solves an equation for the new state by multigrid. {self.inside.explain()}"
        if self.structure.solves:
            return (
                f"A step of {self.title} solves an equation for the new state. Its iteration is a recurrence with tied "
                f"weights: the hidden state v is the iterate, the input at every iteration is the old state."
            )
        again = f" After {self.cycle} layers it starts again." if self.cyclic else ""
        again += " Its diffusivities are those of the state it started from." if self.freeze else ""
        if self.memory:
            return (
                f"A layer of {self.title} combines a residual block at u^k with a skip connection that reaches back to "
                f"u^{{k−{self.memory}}}.{again}"
            )
        if self.structure.turns:
            return (
                f"In a layer of {self.title} the fields take turns: a residual block changes one of them and reads the "
                f"others, so that it can be undone where none reads itself.{again}"
            )
        count = self.structure.evaluations
        stages = "is a residual block" if count == 1 else f"chains {count} residual blocks, its stages"
        return f"A layer of {self.title} {stages}: the skip connection carries u.{again}"


class _Clock:
    """f for the time itself, shared equally by its parts."""

    def __init__(self, rate: sp.Expr) -> None:
        self.rate = rate

    def __call__(self, u: Any) -> sp.Expr:
        return self.rate

    def frozen(self, u: Any) -> _Clock:
        return self

    def split(self) -> list[_Clock]:
        return [_Clock(self.rate / 2)] * 2

    fields = split


def _scheme_of(given: Any) -> Any:
    """The scheme that a table with a name stands for: { name = "multigrid", cycles = 3 } as a solver."""
    if not (isinstance(given, dict) and isinstance(given.get("name"), str)):
        return given
    return SCHEMES[given["name"]](**{key: value for key, value in given.items() if key != "name"})


POWER = "power bounded"
SCHEMES: Registry[type[Scheme]] = Registry("scheme", SchemeError)
S = TypeVar("S", bound=type[Scheme])


def scheme(name: str) -> Callable[[S], S]:
    """Register a scheme under the name that specs use.

    Raises `SchemeError` if the name is taken or the class is no `Scheme`.
    """

    def register(cls: S) -> S:
        if isinstance(cls, type) and issubclass(cls, Scheme) and not is_dataclass(cls):
            raise SchemeError(f"scheme {name!r}: put @dataclass(frozen=True) on {cls.__name__}, below @scheme")
        SCHEMES.register(name, cls, Scheme)
        return cls

    return register
