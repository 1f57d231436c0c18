"""What a user adds: a scheme, a diffusivity, a boundary condition, in a file of their own."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch
import zoo

import pdeloom as loom

ROOT = Path(__file__).parents[1]
FILE = ROOT / "examples" / "new_scheme.py"


@pytest.fixture(scope="module")
def example():
    return zoo.example("new_scheme")


def test_the_scheme_of_the_example_is_short():
    tree = ast.parse(FILE.read_text(encoding="utf-8"))
    (scheme,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Ralston"]
    assert scheme.end_lineno - scheme.lineno + 3 <= 25


def test_the_docs_page_is_the_file_explained():
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    code = FILE.read_text(encoding="utf-8")
    assert len(blocks) == 3 and all(block in code for block in blocks)


def test_everything_works_for_it(example, tmp_path):
    """Stability, reference, emission, report, save and load, with nothing told to the package."""
    z = sp.Symbol("z")
    scheme = example.Ralston(steps=3)
    assert sp.expand(sp.nsimplify(scheme.amplification(z), rational=True, tolerance=1e-12) - (1 + z + z**2 / 2)) == 0
    assert float(scheme.real_interval()) == pytest.approx(2, abs=1e-12)
    net = loom.compile(zoo.pde("perona-malik 2d"), scheme=scheme, trainable=["lam", "tau"])
    assert net.architecture == "ResNet" and "Ralston's method" in net.source
    assert net.stability["power bounded"].bound == pytest.approx(0.25)
    u, _ = zoo.sample(net)
    with torch.no_grad():
        np.testing.assert_allclose(net.module(torch.float64)(u).numpy(), net.reference(u.numpy()), atol=1e-13)
    assert "Ralston" in net.report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "2/3 τ k" in net.explain() and "K_x" in net.explain()
    net.save(tmp_path / "net")
    assert loom.load(tmp_path / "net").net.source == net.source


def test_a_diffusivity_and_a_boundary_condition_of_ones_own(example):
    text = "dt(u) = d(geman_mcclure(d(u, x)**2, lam) * d(u, x), x)"
    lam = {"lam": {"value": 0.3, "positive": True}}
    pde = loom.parse(text, coordinates=["x"], fields=["u"], boundary="wall", parameters=lam)
    net = loom.compile(pde, scheme=loom.ForwardEuler(4))
    assert net.name == "GemanMcclure1d" and "wall" in net.source
    assert net.spec()["pde"]["boundary"] == "wall"
    u, _ = zoo.sample(net)
    with torch.no_grad():
        np.testing.assert_allclose(net.module(torch.float64)(u).numpy(), net.reference(u.numpy()), atol=1e-13)
    heat = loom.parse("dt(u) = d(u, x, 2)", coordinates=["x"], fields=["u"], boundary="wall")
    n = 32
    x = (np.arange(n) + 0.5) / n
    net = loom.compile(heat, grid=loom.Grid(1 / n), scheme=loom.CrankNicolson(100, tau=1e-3))
    wave = np.sin(np.pi * x)[None, None]
    decay = np.exp(-(np.pi**2) * 0.1)
    assert np.abs(net.reference(wave) - decay * wave).max() < 1e-3, "u = 0 lies on the cell faces"


def test_the_command_line_finds_an_installed_extension(tmp_path):
    """By its entry point, as pip would write it."""
    (tmp_path / "their_scheme.py").write_text(FILE.read_text(encoding="utf-8"), encoding="utf-8")
    info = tmp_path / "their_scheme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-scheme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pdeloom.extensions]\ntheirs = their_scheme\n")
    (tmp_path / "spec.toml").write_text(
        '[pde]\ncoordinates = ["x"]\nfields = ["u"]\nequation = "dt(u) = d(geman_mcclure(d(u, x)**2, lam) * d(u, x), x)"\n'
        'boundary = "wall"\n[parameters]\nlam = { value = 0.3, positive = true }\n[scheme]\nname = "ralston"\nsteps = 2\n'
    )

    def shell(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "pdeloom", *arguments],
            cwd=tmp_path,
            env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
            capture_output=True,
            text=True,
        )

    assert "ralston" in shell("schemes").stdout
    done = shell("check", "spec.toml")
    assert done.returncode == 0 and "power bounded" in done.stdout, done.stderr


WRONG = {
    "a name that is taken": (lambda: loom.scheme("heun")(loom.FED), loom.SchemeError, "taken"),
    "no scheme": (lambda: loom.scheme("x")(int), loom.SchemeError, "inherits from loom.Scheme"),
    "no dataclass": (lambda: loom.scheme("x")(type("S", (loom.Scheme,), {})), loom.SchemeError, "dataclass"),
    "no boundary": (lambda: loom.boundary("x")(int), loom.BoundaryError, "inherits from loom.Boundary"),
    "a bad name": (lambda: loom.named_diffusivity("a b")(lambda r: 1 / (1 + r)), loom.DeclarationError, "letters"),
    "a free symbol": (
        lambda: loom.named_diffusivity("y")(lambda r: r * sp.Symbol("q")),
        loom.DeclarationError,
        "nothing but its arguments",
    ),
    "an even plane through nodes": (lambda: loom.Side("node", 1), loom.BoundaryError, "odd"),
    "an unknown boundary": (
        lambda: loom.parse("dt(u) = d(u,x,2)", coordinates=["x"], fields=["u"], boundary="wal"),
        loom.BoundaryError,
        "no-flux",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_extensions_are_refused(case):
    attempt, error, cure = WRONG[case]
    with pytest.raises(error, match=cure):
        attempt()


def test_a_step_that_is_not_made_of_the_four_operations_says_so():
    @dataclass(frozen=True)
    class Squares(loom.Scheme):
        steps: int
        tau: float | str = 0.1

        def step(self, f, u, tau):
            return u + tau * abs(f(u))

    with pytest.raises(loom.SchemeError, match="scalar \\* u"):
        loom.compile(zoo.pde("heat 1d"), scheme=Squares(2))


def own(step, **fields):
    """A scheme with this step, not registered."""
    body = {"__annotations__": {"steps": "int", "tau": "float | str"}, "tau": "auto", "step": step, **fields}
    return dataclass(frozen=True)(type("Own", (loom.Scheme,), body))


NOT_A_SCHEME = {
    "tau forgotten": (lambda self, f, u, tau: u + f(u), "multiply f by tau"),
    "tau squared": (lambda self, f, u, tau: u + tau**2 * f(u), "multiply f by tau"),
    "no u": (lambda self, f, u, tau: tau * f(u), "constant state"),
    "a constant": (lambda self, f, u, tau: u + tau * f(u) + 1, "constant state|not made of"),
    "nothing returned": (lambda self, f, u, tau: None, "returns None"),
    "a root": (lambda self, f, u, tau: u + sp.sqrt(2) * tau * f(u), "not made of|multiply"),
}


@pytest.mark.parametrize("case", NOT_A_SCHEME)
def test_what_is_not_a_scheme_is_refused_before_it_is_certified(case):
    step, why = NOT_A_SCHEME[case]
    with pytest.raises(loom.SchemeError, match=why):
        loom.compile(zoo.pde("heat 1d"), scheme=own(step)(steps=1, tau=0.05))


def test_sums_of_parts_and_unary_plus_are_allowed():
    summed = own(lambda self, f, u, tau: +u + tau * sum(part(u) for part in f.split()))
    net = loom.compile(zoo.pde("separable 2d"), scheme=summed(steps=2, tau=0.05))
    u, _ = zoo.sample(net)
    with torch.no_grad():
        np.testing.assert_allclose(net.module(torch.float64)(u).numpy(), net.reference(u.numpy()), atol=1e-13)


def test_a_multistep_scheme_may_split_and_then_claims_nothing():
    def step(self, f, u, tau, old):
        return old + 2 * tau * sum(part(u) for part in f.split())

    net = loom.compile(zoo.pde("separable 2d"), scheme=own(step)(steps=3, tau=0.01), unstable="allow")
    assert {r.status for r in net.stability} <= {"unknown", "refuted"}


def test_all_solves_of_a_step_share_one_solver():
    def step(self, f, u, tau):
        v = loom.solve(lambda v: v - u - tau * f(v), u, loom.Solver(max_iterations=40))
        return loom.solve(lambda w: w - v - tau * f(w), v)

    with pytest.raises(loom.SchemeError, match="one solver"):
        loom.compile(zoo.pde("heat 1d"), scheme=own(step)(steps=1, tau=0.1))


def test_an_implicit_scheme_may_have_a_schedule():
    """The solver is planned for the largest step of the cycle, and the module follows the reference."""
    cycle = own(
        lambda self, f, u, tau, *, c: loom.solve(lambda v: v - u - c * tau * f(v), u),
        schedule=lambda self: {"c": [0.5, 4.0]},
        cycle=property(lambda self: 2),
    )
    net = loom.compile(zoo.pde("heat 1d"), scheme=cycle(steps=4, tau=1.0))
    assert net.compiled.plan.gain == pytest.approx(1 + 4 * 4)
    u, _ = zoo.sample(net)
    with torch.no_grad():
        np.testing.assert_allclose(net.module(torch.float64)(u).numpy(), net.reference(u.numpy()), atol=1e-9)


def test_a_scheme_that_may_change_is_refused():
    @dataclass
    class Loose(loom.Scheme):
        steps: int
        tau: float | str = "auto"

    with pytest.raises(loom.SchemeError, match="frozen"):
        Loose(1)


def test_no_maximum_principle_for_steps_that_meet_two_operators():
    """A(0) and A(u): each resolvent averages, their mixture does not."""

    def imex(self, f, u, tau):
        A = f.frozen(0 * u)
        return loom.solve(lambda v: v - u - tau * f(u) - tau * A(v - u), u)

    net = loom.compile(zoo.pde("perona-malik 1d"), scheme=own(imex)(steps=1, tau=2.0), unstable="allow")
    assert net.stability["maximum principle"].status != "proved"
    u = torch.zeros(1, 1, 32, dtype=torch.float64)
    u[..., 16:], u[..., 16] = 99.5, 100
    with torch.no_grad():
        assert net.module(torch.float64)(u).min() < -1e-3
