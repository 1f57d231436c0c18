"""Where every value of the graph is needed, and how arrays are sliced and continued beyond the boundary.

Extents are counted in half cells: a value with extent (−1, 1) reaches from the face −½ to the face n−½. A
state carries a ghost ring just wide enough for one evaluation of f; intermediate states get the same ring, and
the new state at the end of the step. Only a value whose parity is not what its reader needs is continued explicitly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import networkx as nx

from .errors import BoundaryError
from .grid import ONE_SIDED, OPEN, Axis
from .ops import (
    AdjointFilterBank,
    AdjointStencil,
    ChannelMixture,
    ChannelSum,
    Combination,
    Component,
    FilterBank,
    Flux,
    Ghost,
    Held,
    Input,
    Integral,
    Solve,
    Stack,
    Stencil,
)

Extent = tuple[tuple[int, int], ...]
"""Per axis (first position, last position past node n−1)."""


@dataclass(frozen=True)
class Extension:
    """Before `reader` reads `value`, continue it along one of its axes with the given parity."""

    value: str
    axes: tuple[Axis, ...]
    axis: int
    parity: tuple[int, int]
    width: tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Extents of all values, and the explicit extensions each reader needs."""

    extents: Mapping[str, Extent]
    extensions: Mapping[str, tuple[Extension, ...]]
    rings: Mapping[str, tuple[int, ...]]
    """Ghost ring widths of states, data and intermediate states, per axis; all states share one."""

    @property
    def ring(self) -> tuple[int, ...]:
        """The ring of the states."""
        return self.rings[""]


def offsets(op: Stencil | AdjointStencil) -> tuple[tuple[int, ...], ...]:
    """The offsets an op reads at: the taps of K, or of K* their negatives."""
    sign = -1 if isinstance(op, AdjointStencil) else 1
    return tuple(tuple(sign * j for j in offset) for offset in op.K.taps())


def plan(graph: nx.DiGraph, least: Mapping[str, tuple[int, ...]] | None = None) -> Layout:
    """Walk the graph backwards from the new state, which is needed on the nodes alone.

    `least` are rings that states ("") and data have at any rate, because another graph reads them too.
    """
    given = least or {}
    axes: tuple[Axis, ...] = graph.graph["axes"]
    nodes = [(0, 0)] * len(axes)
    needed: dict[str, list[tuple[int, int]]] = dict.fromkeys(graph.graph["outputs"], nodes)
    extensions: dict[str, tuple[Extension, ...]] = {}
    for name in reversed(list(graph)):
        op, arguments = graph.nodes[name]["op"], graph.nodes[name]["args"]
        extent = needed.setdefault(name, [(0, 0)] * len(axes))
        for argument in arguments:
            wanted, found = _reads(op, extent), []
            if isinstance(op, Integral):
                wanted = [axis.closed(j) for axis, j in zip(axes, op.location, strict=True)]
            if isinstance(op, (Stencil, AdjointStencil)):
                place = graph.nodes[argument]["place"]
                required = op.parity if isinstance(op, Stencil) else op.K.parity(op.parity)
                for a, axis in enumerate(op.K.axes):
                    closed = axis.closed(place.location[a])
                    apart = place.parity[a] != required[a] or -ONE_SIDED in required[a]
                    if not axis.periodic and apart and _touches(axis, wanted[a], closed, required[a]):
                        width = (max(0, closed[0] - wanted[a][0]) // 2, max(0, wanted[a][1] - closed[1]) // 2)
                        found.append(Extension(argument, op.K.axes, a, required[a], width))
                        wanted[a] = closed
            extensions[name] = (*extensions.get(name, ()), *found)
            before = needed.get(argument, wanted)
            needed[argument] = [(min(p[0], q[0]), max(p[1], q[1])) for p, q in zip(before, wanted, strict=True)]
    rings = {}
    for name, op in graph.nodes(data="op"):
        if isinstance(op, Ghost) or (isinstance(op, Input) and op.role in ("state", "data")):
            own = tuple((max(-low, high, 0) + 1) // 2 for low, high in needed[name])
            rings[name] = tuple(map(max, zip(own, given.get(name, own), strict=True)))
            if op.fields:  # what a staggered field has on its wall is put there with the ring
                walled = (any(axis.shift and axis.sides for axis in every) for every in zip(*op.fields, strict=True))
                rings[name] = tuple(map(max, zip(rings[name], map(int, walled), strict=True)))
    ringed = [n for n in rings if not isinstance(graph.nodes[n]["op"], Input) or graph.nodes[n]["op"].role == "state"]
    rings[""] = tuple(map(max, zip(given.get("", (0,) * len(axes)), *(rings[n] for n in ringed), strict=True)))
    rings |= dict.fromkeys(ringed, rings[""])
    needed |= {n: [(-2 * w, 2 * w) for w in rings[n]] for n in rings if n}
    return Layout({n: tuple(e) for n, e in needed.items()}, extensions, rings)


def _touches(axis: Axis, wanted: tuple[int, int], closed: tuple[int, int], parity: tuple[int, int]) -> bool:
    """Is a value read beyond the domain, or on a plane where an odd one vanishes?"""
    assert axis.sides is not None
    low = wanted[0] < closed[0] or (-ONE_SIDED < parity[0] < 0 and wanted[0] == -axis.sides[0].depth)
    high = wanted[1] > closed[1] or (-ONE_SIDED < parity[1] < 0 and wanted[1] == axis.sides[1].depth)
    return low or high


def _reads(op: object, extent: list[tuple[int, int]]) -> list[tuple[int, int]]:
    if isinstance(op, (Stencil, AdjointStencil)):
        reach = list(zip(*offsets(op), strict=True))
        return [(low + min(j), high + max(j)) for (low, high), j in zip(extent, reach, strict=True)]
    if isinstance(op, FilterBank):
        return [(low - 2 * op.bank.radius, high + 2 * op.bank.radius) for low, high in extent]
    if isinstance(op, (Ghost, Held, Solve, Integral, AdjointFilterBank)):
        return [(0, 0)] * len(extent)
    assert isinstance(op, (Flux, Combination, ChannelMixture, ChannelSum, Component, Stack))
    return list(extent)


def slices(of: Extent, to: Extent, offset: tuple[int, ...]) -> str:
    """The subscript that cuts `to`, shifted by `offset`, out of an array with extent `of`.

    >>> slices(((-2, 2),), ((-1, 1),), (1,))
    '[..., 1:]'
    """
    parts = []
    for (have_low, have_high), (low, high), j in zip(of, to, offset, strict=True):
        start, stop = (low + j - have_low) // 2, (high + j - have_high) // 2
        assert start >= 0 and stop <= 0, f"a slice reaches outside its array: {of} {to} {offset}"
        parts.append(f"{start or ''}:{stop or ''}")
    return subscript(parts)


def edge(dimension: int, axis: int, window: str) -> str:
    """A window along one axis, all of the others.

    >>> edge(2, 0, ":1")
    '[..., :1, :]'
    """
    return subscript([window if a == axis else ":" for a in range(dimension)])


def subscript(parts: list[str]) -> str:
    """[..., a, b] without the leading full slices, which the ellipsis covers."""
    while parts and parts[0] == ":":
        parts = parts[1:]
    return f"[..., {', '.join(parts)}]" if parts else ""


def continuation(
    v: str,
    axes: tuple[Axis, ...],
    a: int,
    location: int,
    parity: tuple[int, int],
    width: tuple[int, int],
    role: str,
    values: tuple[float | str, float | str] = (0.0, 0.0),
) -> list[tuple[str, str]]:
    """The pieces (name, code) that continue `v` along axis `a`: ghosts at the low end, `v`, ghosts at the high end.

    `role` is "state" or "data" for inputs, whose arrays stop short of a plane through nodes (there the state has the
    value of the wall and data take their edge value), and "value" for arrays that hold the closed domain.
    """
    axis, d = axes[a], len(axes)
    if axis.sides is None:
        return [("low", v + edge(d, a, f"-{width[0]}:")), ("", v), ("high", v + edge(d, a, f":{width[1]}"))]
    ends = [_ghosts(v, axes, a, location, parity[i], width[i], role, values[i], low=i == 0) for i in (0, 1)]
    trim = [int(wall) for _, wall in ends]
    core = v + edge(d, a, f"{trim[0] or ''}:{-trim[1] or ''}") if any(trim) else v
    return [*ends[0][0], ("", core), *reversed(ends[1][0])]


def _ghosts(
    v: str,
    axes: tuple[Axis, ...],
    a: int,
    location: int,
    parity: int,
    width: int,
    role: str,
    value: float | str,
    low: bool,
) -> tuple[list[tuple[str, str]], bool]:
    """Ghost pieces from the outermost inwards, and whether they replace the value on the plane; `value` is a number, or
    the name of a tensor."""
    axis, d = axes[a], len(axes)
    assert axis.sides is not None
    side = axis.sides[0 if low else 1]
    name = "low" if low else "high"
    if abs(parity) == OPEN:
        assert parity > 0 and role == "state", "nothing is known beyond an open side"
        if width > 1:
            raise BoundaryError(
                f"beside a Neumann or Robin condition along {axis.name} one value beyond the wall is known, {width} "
                f"are read, by a reconstruction or for other fields; use NoFlux() or Dirichlet(…)"
            )
        r, s = axis.ghost(0 if low else 1)[0], value  # the number, or the name of a tensor
        inner = v + edge(d, a, ":1" if low else "-1:")
        code = inner if r == 1 else f"{r!r} * {inner}"
        if isinstance(s, str):
            code += f" + {s}"
        else:
            code += "" if not s else f" + {s!r}" if s > 0 else f" - {-s!r}"
        return ([(name, code)] if width else []), False

    def mirrored(start: int, count: int) -> list[tuple[str, str]]:
        if count <= 0:
            return []
        window = f"{start or ''}:{start + count}" if low else f"-{start + count}:{-start or ''}"
        flip = f".flip({a - d})" if count > 1 else ""
        minus = f"2 * {value} - " if isinstance(value, str) else "-" if not value else f"{2 * value!r} - "
        return [(name, f"{minus if parity < 0 else ''}{v}{edge(d, a, window)}{flip}")]

    outermost = v + edge(d, a, ":1" if low else "-1:")
    fill = f"torch.full_like({outermost}, {value!r})" if value else f"torch.zeros_like({outermost})"
    if isinstance(value, str):
        fill = f"{value} + torch.zeros_like({outermost})"
    fixed = (f"{name}_wall", fill)
    if abs(parity) == ONE_SIDED:
        assert (parity > 0) == (role == "state"), "the condition is that of the state alone"
        pieces, skipped = [], 0
        for steps in range(width, 0, -1):
            weights, own = axis.beyond(0 if low else 1, location, steps, parity > 0)
            skipped = min(weights)  # a value on the wall is not in the array of a state
            windows = [(i - skipped, w) for i, w in weights.items()]
            terms = [
                f"{float(w)!r} * {v}{edge(d, a, f'{k}:{k + 1}' if low else f'-{k + 1}:{-k or str()}')}"
                for k, w in windows
            ]
            if own and value:
                terms.append(f"{float(own)!r} * {value}" if isinstance(value, str) else repr(float(own) * value))
            pieces.append((f"{name}_{steps}", " + ".join(terms).replace("+ -", "- ")))
        return ([*pieces[skipped:], fixed] if skipped else pieces), False
    if side.depth % 2 != location % 2:  # the plane lies between the outermost value and its mirror image
        return mirrored(0, width), False
    if side.plane == "value":  # the outermost value of a staggered field lies on the plane
        ghosts = mirrored(1, width)
        return ([*ghosts, fixed], True) if parity < 0 else (ghosts, False)
    if role != "value" or axis.shift:
        wall = fixed if role != "data" else (f"{name}_wall", outermost)
        return ([*mirrored(0, width - 1), wall] if width else []), False
    if parity < 0:
        return [*mirrored(1, width), fixed], True
    return mirrored(1, width), False
