"""The table of measured orders: what it says is true, and what it promises holds."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest

import pdeloom as loom

ROOT = Path(__file__).parents[1]


def _script():
    spec = importlib.util.spec_from_file_location("orders", ROOT / "examples" / "orders.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["orders"] = module
    spec.loader.exec_module(module)
    return module


orders = _script()
FOUND = json.loads(orders.RESULTS.read_text(encoding="utf-8"))
ROWS = [(name, order, wall) for name, rows in FOUND.items() for order, row in rows.items() for wall in row]


def test_the_page_shows_the_results():
    assert (ROOT / "docs" / "orders.md").read_text(encoding="utf-8") == orders.page(FOUND)


@pytest.mark.parametrize(("name", "order", "wall"), ROWS)
def test_every_order_is_what_was_asked_for_or_a_stated_limit(name, order, wall):
    value = FOUND[name][order][wall]
    least = orders.LIMITS.get((name, order), {}).get(wall, int(order))
    assert value is None or value > least - (0.35 if least < 8 else 1)


@pytest.mark.parametrize("name", [name for name in orders.TERMS if not orders.TERMS[name].has(orders.y)])
@pytest.mark.parametrize("wall", orders.WALLS)
def test_the_table_is_measured_again(name, wall):
    """All of one axis; the rows of two take a minute by themselves."""
    for order, row in FOUND[name].items():
        again = orders.measure(
            orders.TERMS[name], orders.WALLS[wall], loom.FiniteDifference(order=int(order)), int(order)
        )
        assert (again is None) == (row[wall] is None)
        assert again is None or again == pytest.approx(row[wall], abs=0.1)


@pytest.mark.parametrize(("kind", "order"), orders.VOLUMES.items())
def test_finite_volumes_are_measured_again(kind, order):
    space = loom.FiniteVolume("upwind") if kind == "upwind" else loom.FiniteVolume("rusanov", kind)
    again = orders.measure(-loom.d(orders.w, orders.x), orders.WALLS["periodic"], space, order)
    assert again == pytest.approx(FOUND[f"−∂x u by {kind}"][str(order)]["periodic"], abs=0.1)


def test_a_nonlinear_flux_comes_to_its_order_late_beside_one_sided_walls_without_flux():
    term, wall = orders.TERMS["∂x(g(|∂x u|²) ∂x u)"], orders.ANY["no flux"]
    sizes = (32, 64, 128, 200)
    errors = [orders.error(term, wall, loom.FiniteDifference(4, "one-sided"), (n,)) for n in sizes]
    found = [
        math.log(a / b) / math.log(m / n) for a, b, m, n in zip(errors, errors[1:], sizes[1:], sizes, strict=False)
    ]
    assert found == sorted(found) and found[0] < 3 and 3.5 < found[-1] < 4.5  # late, but it comes


@pytest.mark.parametrize(("name", "order"), [(name, order) for name in orders.CLOSED for order in FOUND[name]][::3])
def test_closures_are_measured_again(name, order):
    """Every third row, beside the walls of two values."""
    term, closure = orders.CLOSED[name]
    space = loom.FiniteDifference(int(order), closure)
    again = orders.measure(orders.TERMS[term], orders.ANY["two values"], space, int(order))
    assert again == pytest.approx(FOUND[name][order]["two values"], abs=0.1)
