"""The torch printer of filter banks: their weights, the filters made of them, their norm and the fold of a ring."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..templates import environment
from .bank import OTHERS, Bank, Family, samples
from .grid import Axis
from .printing import literal
from .statements import LINE, call, tuple_code

CACHE = 2**18
"""So many values of a flux are computed at a time by every thread: a megabyte, which the caches of a core hold."""


def helpers(banks: Sequence[Bank], normed: bool, by_rows: bool) -> str:
    """The functions and constants that stand before the module; `normed`: with the norm of trained filters, `by_rows`:
    with fluxes that are computed so."""
    if not banks:
        return ""
    first = banks[0]
    count, excess = samples(first.size, first.dimension, learned=True, inputs=first.most)
    text = (
        environment()
        .get_template("torch/filters.py.j2")
        .render(
            normed=normed,
            images=_images(first),
            orders=_orders(first),
            copies=first.copies,
            cube=tuple_code(["1", "1", *["3"] * first.dimension]),
            mixed=any(bank.mixed for bank in banks),
            several=first.most > 1,
            thin=any(bank.thin for bank in banks),
            by_rows=by_rows,
            cache=f"2**{CACHE.bit_length() - 1}",
            before=", ".join(["0"] * (2 * first.dimension - 2)),
            padding=tuple_code(["0", "n"] * first.dimension),
            even=first.most == 1 and (first.invariant or len(first.mirrored(learned=True)) == first.dimension),
            size=first.size,
            dimension=first.dimension,
            count=count,
            excess=literal(excess),
            mirrored=tuple_code([str(3 + a) for a in first.mirrored(learned=True)])
            if first.mirrored(learned=True)
            else "",
        )
    )
    starts = [_start(bank, family) for bank in banks for family in bank.families]
    lines = ["# the weights of the cosines that filters start with: (cosine, weight), ... per filter"]
    return text.rstrip("\n") + "\n\n\n" + "\n".join([*lines, *starts]) + "\n\n\n"


def _images(bank: Bank) -> str:
    """What the function is called that makes the images of filters; empty where they bring none."""
    return ("images" if bank.turned else "reflections") * bank.reflected


def _orders(bank: Bank) -> str:
    """The axes of filters in every order, where these are among their images."""
    if not bank.turned:
        return ""
    axes = range(2, 2 + bank.dimension)
    return tuple_code([tuple_code(order) for order in itertools.permutations(axes)])


def _brought(bank: Bank) -> str:
    return (", and their reflections" + ", turned as well" * bank.turned) * bank.reflected


def _start(bank: Bank, family: Family) -> str:
    head, rows = f"START_{name_of(bank, family)} = (", []
    for weights in family.start:
        entries = [f"({j}, {literal(w)})" for j, w in enumerate(weights) if w]
        rows.append(tuple_code(entries))
        if len(rows[-1]) > LINE - 5:
            rows[-1] = "\n".join(["(", *(f"        {e}," for e in entries), "    )"])
    if len(rows) == 1 and len(head) + len(rows[0]) + 2 <= LINE:  # one row is no reason for a line of its own
        return f"{head}{rows[0]},)"
    return "\n".join([head, *(f"    {row}," for row in rows), ")"])


def name_of(bank: Bank, family: Family) -> str:
    return f"{bank.label}_{family.name}" if family.name else bank.label


def weights(bank: Bank, learned: bool, repeats: str | None) -> list[str]:
    """Statements of the constructor: the weights of trained filters, or the filters themselves; `repeats` is the
    number of sets, None for one that is shared."""
    taps, kind = " × ".join([str(bank.size)] * bank.dimension), "dtype=dtype, device=device"
    lines, made = [f"# {bank.filters} filters of {taps} taps{_brought(bank)}"], []
    for family in bank.families:
        name = name_of(bank, family)
        parities = tuple_code([str(p) for p in family.parities])
        basis = f"cosines({bank.size}, {parities}){'[1:]' * family.bare}"
        start = f"weights_of(START_{name}, {len(family.start[0])})"
        if bank.inputs > 1:
            start += f".reshape(-1, {bank.inputs}, {len(family.start[0]) // bank.inputs})"
        made.append(f"{start} @ {basis}")
        if learned:
            lines.append(f"basis = {basis}.to({kind})")
            lines += call("self.register_buffer", [f'"basis_{name}"', "basis", "persistent=False"], LINE - 8)
            lines.append(f"w = {start}.to({kind})")
            repeated = "w" if repeats is None else f"w.repeat({repeats}, 1, 1{', 1' * (bank.inputs > 1)})"
            lines.append(f"self.weights_{name} = nn.Parameter({repeated})")
    if learned:
        return lines + (_mixture_weights(bank, kind, repeats) if bank.mixed else [])
    if len(made) == 1:
        lines.append(f"basis = {basis}")
        made = [f"{start} @ basis"]
    lines += _together("filters = ", made, bank)
    buffer = [f'"{bank.label}"', f"filters.to({kind})", "persistent=False"]
    return lines + call("self.register_buffer", buffer, LINE - 8)


def _mixture_weights(bank: Bank, kind: str, repeats: str | None) -> list[str]:
    C, rows = bank.channels, f"[::{bank.copies}]" * bank.reflected
    repeated = "mix.log()" if repeats is None else f"mix.log().repeat({repeats}, 1, 1)"
    buffer = [f'"quotients_{bank.label}"', "quotients().to(device)", "persistent=False"]
    return [
        *call("self.register_buffer", buffer, LINE - 8) * bank.reflected,
        "# a mixture of the channels for each of them: itself, and a little of all",
        f"mix = {literal(1 - OTHERS)} * torch.eye({C}, {kind}){rows} + {literal(OTHERS)} / {C}",
        f"self.log_mix_{bank.label} = nn.Parameter({repeated})",
    ]


def mixture(bank: Bank, at: Callable[[str], str]) -> list[str]:
    """The docstring and the lines of the method that makes the mixtures of step k."""
    shape = ", ".join([str(bank.channels)] * 2 + ["1"] * bank.dimension)
    value = f"{at(f'log_mix_{bank.label}')}.clamp(-20, 20).exp()"
    doc = f"What every channel of step k reads of all: ({shape}), positive."
    lines = [f"mix = {value}"]
    if bank.reflected:  # a row for every filter, and its images read the images of what it reads
        by_filter = f"{bank.filters}, {bank.filters}, {bank.copies}"
        lines.append(f"mix = mix.reshape({by_filter})[..., self.quotients_{bank.label}].transpose(1, 2)")
    return [doc, *lines, f"return mix.reshape({shape})"]


def method(bank: Bank, at: Callable[[str], str]) -> list[str]:
    """The lines of the method that makes the filters of step k; `at` gives the code of a weight at that step."""
    names = [name_of(bank, family) for family in bank.families]
    return _together("return ", [f"{at(f'weights_{n}')} @ self.basis_{n}" for n in names], bank)


def _together(start: str, made: list[str], bank: Bank) -> list[str]:
    """The families of a bank as one array (C, inputs, taps)."""
    shape = ", ".join(["-1", str(bank.inputs), *[str(bank.size)] * bank.dimension])
    if bank.reflected:
        return [f"{start}{_images(bank)}(({made[0]}).reshape({shape}))"]
    if len(made) == 1:
        return [f"{start}({made[0]}).reshape({shape})"]
    return ["families = (", *(f"    {m}," for m in made), ")", f"{start}torch.cat(families).reshape({shape})"]


def fold(axes: Sequence[Axis], radius: int) -> dict[str, Any]:
    """The method that is the transpose of a ghost ring."""
    d, lines = len(axes), []
    for a, axis in enumerate(axes):
        rest = ", :" * (d - 1 - a)
        low, core, high = (f"v[..., {w}{rest}]" for w in (f":{radius}", f"{radius}:-{radius}", f"-{radius}:"))
        flip = "" if axis.periodic else f".flip({a - d})"
        lines += [f"low, high = {low}{flip}, {high}{flip}", f"v, size = {core}, v.shape[{a - d}] - {3 * radius}"]
        before = ["0", "0"] * (d - 1 - a)
        at_end, at_start = (", ".join([*before, *ends]) for ends in (("size", "0"), ("0", "size")))
        first, last = (at_end, at_start) if axis.periodic else (at_start, at_end)
        lines += [
            f"v = v + nn.functional.pad(low, ({first}))",
            f"v = v + nn.functional.pad(high, ({last}))",
        ]
    doc = "The transpose of the ghost ring: what lies beyond the boundary is added to where it came from."
    return {"name": "fold", "v": "v", "doc": doc, "lines": lines}
