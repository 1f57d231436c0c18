"""The emitted source: equal to the reference, pretty, deterministic, and at home everywhere torch is."""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch
import zoo
from sympy import Eq

import pdeloom as loom
from pdeloom.compiler.nonlinearity import DIFFUSIVITIES
from pdeloom.compiler.printing import torch_code

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_CASES = {
    "heat_1d.py": lambda: zoo.network("heat 1d", "dirichlet"),
    "perona_malik_2d.py": lambda: zoo.network("perona-malik 2d", tau="auto", steps=10, h=1.0, trainable=["lam", "tau"]),
    "separable_3d.py": lambda: zoo.network("separable 3d", "periodic", order=4, trainable=["lam"], shared=True),
    "fourth_order_1d.py": lambda: zoo.network("fourth order 1d", tau="auto", trainable=["tau", "stencil"]),
    "coefficient_2d.py": lambda: zoo.network("coefficient 2d", "mixed"),
    "mixed_operator_1d.py": lambda: zoo.network("mixed operator 1d"),
    "learned_filters_2d.py": lambda: filtered("no-flux", 4, 3, trainable=["lam", "tau", "stencil"]),
}
CASES = zoo.CASES


def filtered(kind, channels, size, equation="separable 2d", trainable=(), scheme=None, **options):
    pde = loom.PDE(zoo.EQUATIONS[equation], boundary={"no-flux": loom.NoFlux(), "periodic": loom.Periodic()}[kind])
    space = loom.FilterBank(channels, size, **options)
    return loom.compile(pde, space=space, scheme=scheme or loom.ForwardEuler(3), trainable=list(trainable))


TURNED = {"symmetric": "turned", "init": "dct"}
BANKS = [
    ("no-flux", 2, 3, {}),
    ("periodic", 9, 5, {"joint": True, "trainable": ["stencil"]}),
    ("no-flux", 9, 7, {"symmetric": True, "own_fluxes": True, "init": "dct", "trainable": ["lam", "tau", "stencil"]}),
    ("no-flux", 12, 5, {"symmetric": True, "init": "dct"}),
    ("no-flux", 6, 3, {"equation": "perona-malik 1d", "trainable": ["lam", "stencil"], "own_fluxes": True}),
    ("periodic", 6, 3, {"equation": "separable 3d", "trainable": ["stencil"], "scheme": loom.SemiImplicit(2, tau=1.0)}),
    ("no-flux", 32, 5, {"joint": "learned", "trainable": ["lam", "stencil"], "scheme": loom.FSI(cycles=2, length=3)}),
    ("periodic", 6, 3, {"equation": "separable 3d", "joint": "learned", "trainable": ["stencil"]}),
    ("no-flux", 8, 5, {"symmetric": "reflected", "own_fluxes": True, "init": "dct", "trainable": ["lam", "stencil"]}),
    ("no-flux", 8, 3, {"symmetric": "reflected", "joint": "learned", "init": "dct", "trainable": ["stencil"]}),
    ("no-flux", 4, 3, {"equation": "perona-malik 1d", "symmetric": "reflected", "init": "orthonormal"}),
    ("no-flux", 16, 5, {"own_fluxes": True, "trainable": ["lam", "stencil"], **TURNED}),
    ("periodic", 48, 3, {"equation": "separable 3d", "joint": "learned", "trainable": ["stencil"], **TURNED}),
]
"""Boundary, channels, size, options of filter banks."""


def run(net, shape, seed=0, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    u = 0.3 * rng.normal(size=shape)
    data = {str(f.func): rng.uniform(0, 2, size=shape) for f in net.compiled.problem.data}
    module = net.module(dtype=dtype)
    out = module(torch.tensor(u, dtype=dtype), **{k: torch.tensor(v, dtype=dtype) for k, v in data.items()})
    return out.detach().double().numpy(), net.reference(u, **data)


@pytest.mark.xdist_group("emitted")
@pytest.mark.parametrize(("name", "kind", "order"), CASES)
def test_module_equals_reference(name, kind, order):
    """At the initial weights, to 1e-12 in float64; odd, even and tiny grids; both centrings."""
    for centering, size in itertools.product(("vertex", "cell"), ((9, 8, 7), (5, 6, 5))):
        net = zoo.network(name, kind, order, centering=centering)
        out, expected = run(net, (2, 1, *size[: zoo.dimension(name)]))
        assert abs(out - expected).max() <= 1e-12 * max(1.0, abs(expected).max())


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "name",
    ["perona-malik 1d", "perona-malik 2d", "separable 3d", "regularised-tv 2d", "fourth order 1d", "biharmonic 2d"],
)
def test_trainable_modules_start_at_the_scheme(name, shared, order):
    parameter = "eps" if "tv" in name else "lam"
    net = zoo.network(name, "no-flux", order, tau="auto", trainable=[parameter, "tau", "stencil"], shared=shared)
    out, expected = run(net, (2, 1, *(9, 8, 7)[: zoo.dimension(name)]))
    assert abs(out - expected).max() <= 1e-12
    module = net.module(dtype=torch.float64)
    leading = () if shared else (net.scheme.steps,)
    assert all(p.shape[: len(leading)] == leading for p in module.parameters())
    module(torch.randn(1, 1, *(9, 8, 7)[: zoo.dimension(name)], dtype=torch.float64)).square().sum().backward()
    assert all(
        p.grad is not None and torch.isfinite(p.grad).all() and p.grad.abs().sum() > 0 for p in module.parameters()
    )


@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "periodic"])
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("name", ["perona-malik 2d", "biharmonic 2d"])
def test_learned_stencils_keep_parity_and_constants(name, order, kind):
    """For any weights: constant in, constant out; mass conserved; flips commute."""
    net = zoo.network(name, kind, order, tau="auto", trainable=["stencil"])
    module = net.module(dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p += torch.randn(p.shape, generator=generator, dtype=p.dtype)
    u = torch.randn(1, 1, 10, 9, generator=generator, dtype=torch.float64)
    assert torch.allclose(module(u.flip(-1)), module(u).flip(-1), atol=1e-12)
    if kind != "dirichlet":
        assert torch.allclose(module(torch.full_like(u, 0.3)), torch.full_like(u, 0.3), atol=1e-12)
        assert module(u).sum().item() == pytest.approx(u.sum().item(), abs=1e-11)


@pytest.mark.parametrize(
    "name", ["perona-malik 2d", "separable 2d", "coefficient and g 2d", "mixed operator 1d", "weickert 2d"]
)
def test_gradcheck(name):
    trainable = [p for p in ("lam", "alpha") if p in {str(s) for s in zoo.EQUATIONS[name].free_symbols}]
    net = zoo.network(name, steps=2, trainable=trainable)
    module = net.module(dtype=torch.float64)
    shape = (1, 1, *(5, 6)[: zoo.dimension(name)])
    inputs = [
        torch.rand(shape, dtype=torch.float64, requires_grad=True) for _ in range(1 + len(net.compiled.problem.data))
    ]
    weights = dict(module.named_parameters())

    def f(*args):
        return torch.func.functional_call(
            module, dict(zip(weights, args[len(inputs) :], strict=True)), args[: len(inputs)]
        )

    assert torch.autograd.gradcheck(f, (*inputs, *(w.detach().requires_grad_() for w in weights.values())))


@pytest.mark.parametrize("name", DIFFUSIVITIES)
@pytest.mark.parametrize("form", ["separable", "isotropic"])
def test_fluxes_and_gradients_are_finite_in_float32(name, form):
    """On constants, and at ±1e30."""
    g = zoo.diffusivity(name)
    right = zoo.separable(g, zoo.U, zoo.x, zoo.y) if form == "separable" else zoo.isotropic(g, zoo.U)
    net = loom.compile(
        loom.PDE(Eq(loom.dt(zoo.U), right), boundary=loom.NoFlux()),
        scheme=loom.ForwardEuler(2, 0.1),
        trainable=[str(p) for p in net_parameters(right)],
        unstable="allow",
    )
    constant = torch.full((1, 1, 6, 6), 0.5)
    spikes = torch.zeros(1, 1, 6, 6)
    spikes[0, 0, 2, 2], spikes[0, 0, 4, 3] = 1e30, -1e30
    for u in (constant, torch.zeros_like(constant), spikes):
        module = net.module()
        u = u.clone().requires_grad_()
        out = module(u)
        out.sum().backward()
        assert torch.isfinite(out).all() and torch.isfinite(u.grad).all()
        if name != "forward-and-backward":  # whose rate κ multiplies s² in the exponent
            assert all(torch.isfinite(p.grad).all() for p in module.parameters())
    assert torch.equal(net.module()(constant), constant)


def net_parameters(right):
    return sorted((s for s in right.free_symbols if hasattr(s, "value")), key=str)


# --- at home in torch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["perona-malik 2d", "mixed operator 1d", "coefficient 2d"])
def test_compile_export_vmap_jvp(name):
    net = zoo.network(name, steps=2, trainable=[p for p in ("lam",) if p in zoo_symbols(name)])
    module, d = net.module(dtype=torch.float64), zoo.dimension(name)
    u = torch.randn(3, 1, *(9, 8, 7)[:d], dtype=torch.float64)
    data = tuple(torch.rand_like(u) for _ in net.compiled.problem.data)
    expected = module(u, *data)
    backend = "inductor" if name == "perona-malik 2d" else "aot_eager"  # the C++ compiler takes ten seconds
    assert torch.allclose(torch.compile(module, fullgraph=True, backend=backend)(u, *data), expected, atol=1e-12)
    dims = dict.fromkeys((0, *range(2, 2 + d)), torch.export.Dim.DYNAMIC)
    sample = torch.randn(2, 1, *(12, 11, 10)[:d], dtype=torch.float64)
    arguments = (sample, *(torch.rand_like(sample) for _ in data))
    exported = torch.export.export(module, arguments, dynamic_shapes=tuple(dims for _ in arguments))
    assert torch.allclose(exported.module()(u, *data), expected, atol=1e-12)
    mapped = torch.func.vmap(lambda *a: module(*(x[None] for x in a))[0])(u, *data)
    assert torch.allclose(mapped, expected, atol=1e-12)
    direction = torch.randn_like(u)
    _, tangent = torch.func.jvp(lambda v: module(v, *data), (u,), (direction,))
    eps = 1e-6
    difference = (module(u + eps * direction, *data) - module(u - eps * direction, *data)) / (2 * eps)
    assert torch.allclose(tangent, difference, atol=1e-6)


def zoo_symbols(name):
    return {str(s) for s in zoo.EQUATIONS[name].free_symbols}


def test_one_compiled_step_serves_all_steps():
    """step(state, k) is the unit to compile: few graphs for many k, and the same numbers as forward."""
    module = zoo.network("perona-malik 2d", steps=8, tau="auto", trainable=["lam", "tau"]).module(dtype=torch.float64)
    u = torch.rand(1, 1, 16, 12, dtype=torch.float64)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    step = torch.compile(module.step, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        state = module.extend(u)
        for k in range(module.steps):
            state = step(state, k)
        ring = (state.shape[-1] - u.shape[-1]) // 2
        assert torch.allclose(state[..., ring:-ring, ring:-ring], module(u), atol=1e-12)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_dtypes(dtype, tolerance):
    net = zoo.network("perona-malik 2d", tau="auto", trainable=["lam", "tau"])
    out, expected = run(net, (2, 1, 9, 8), dtype=dtype)
    assert net.module(dtype=dtype)(torch.zeros(1, 1, 4, 4, dtype=dtype)).dtype == dtype
    assert abs(out - expected).max() < tolerance


def test_wrong_shapes_are_refused():
    module = zoo.network("perona-malik 2d").module()
    for shape in ((4, 4), (1, 3, 8, 8), (1, 1, 8)):
        with pytest.raises(ValueError, match="expected shape"):
            module(torch.zeros(shape))
    with pytest.raises(ValueError, match="fewer than"):
        module(torch.zeros(1, 1, 1, 8))
    for wrong in (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), np.zeros((1, 1, 8, 8)), None):  # bytes would wrap around
        with pytest.raises(ValueError, match="floating point numbers, got"):
            module(wrong)
    module = zoo.network("coefficient 2d").module()
    u = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"a has type torch\.int64"):
        module(u, torch.ones(1, 1, 8, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="a has shape"):
        module(u, torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match="a has a batch of 3, u of 2"):
        module(u.repeat(2, 1, 1, 1), torch.ones(3, 1, 8, 8))
    with pytest.raises(ValueError, match=r"a has type torch\.float64, u torch\.float32"):
        module(u, torch.ones(1, 1, 8, 8, dtype=torch.float64))
    for value in (-1.0, 3.0, float("nan")):
        with pytest.raises(ValueError, match="declared bounds"):
            module(u, a=torch.full((1, 1, 8, 8), value))


# --- the text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", GOLDEN_CASES)
def test_golden_files(file):
    """What a reader will see. PDELOOM_GOLDEN=write renews the files."""
    source = GOLDEN_CASES[file]().source
    if os.environ.get("PDELOOM_GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / file).write_text(source, encoding="utf-8")
    assert _rounded(source) == _rounded((GOLDEN / file).read_text(encoding="utf-8"))


def _rounded(source):
    """Norms of filters come from an FFT, in whose last digit machines differ."""
    return re.sub(r"\d\.\d{13,}", lambda number: f"{float(number[0]):.12g}", source)


@pytest.fixture(scope="module")
def emitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emitted")
    for name, kind, order in CASES:
        if order == 4 and kind in ("dirichlet", "periodic"):
            continue
        stem = f"{name}_{kind}_{order}".replace(" ", "_").replace("-", "_")
        (folder / f"{stem}.py").write_text(zoo.network(name, kind, order, centering="vertex").source, encoding="utf-8")
        parameters = sorted({"lam", "eps"} & zoo_symbols(name))
        untrainable = ("reaction 2d", "porous 2d", "one-sided flux 1d", "forward-and-backward 2d")
        if name not in untrainable and kind == ("no-flux" if order == 2 else "mixed"):
            net = zoo.network(name, kind, order, tau="auto", trainable=[*parameters, "tau", "stencil"])
            (folder / f"{stem}_trained.py").write_text(net.source, encoding="utf-8")
    for name in zoo.SCHEMES:
        for equation, trainable in (
            ("separable 3d", ()),
            ("perona-malik 1d", ("lam", "tau")),
            ("heat 2d", ("stencil",)),
        ):
            net = zoo.march(name, equation, tau=0.01, trainable=trainable)
            stem = f"{name}_{equation}".replace(" ", "_").replace("-", "_")
            (folder / f"{stem}.py").write_text(net.source, encoding="utf-8")
    for i, (kind, channels, size, options) in enumerate(BANKS):
        source = filtered(kind, channels, size, **options).source
        (folder / f"filters_{i}.py").write_text(source, encoding="utf-8")
    for i, options in enumerate(SOLVERS):
        net = zoo.march(
            "backward-euler", "perona-malik 2d", tau=0.01, solver=loom.Solver(**options), trainable=("lam",)
        )
        (folder / f"solver_{i}.py").write_text(net.source, encoding="utf-8")
    return folder


SOLVERS = [
    {"method": method, "gradient": gradient, "on_failure": failure}
    for method in ("fixed-point", "damped", "anderson", "newton-krylov")
    for gradient, failure in (("implicit", "warn"), ("unrolled", "accept"), ("checkpoint", "error"))
] + [{"iterations": 5}, {"method": "anderson", "tol": 1e-7, "memory": 2}]


@pytest.mark.xdist_group("emitted")
def test_every_emitted_file_is_formatted_and_clean(emitted):
    """ruff's own defaults, not the project's."""
    ruff = [sys.executable, "-m", "ruff"]
    for command in (["format", "--check", "--isolated"], ["check", "--isolated"]):
        done = subprocess.run([*ruff, *command, str(emitted)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.xdist_group("emitted")
def test_emitted_source_needs_torch_alone(emitted):
    for file in emitted.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert imported <= {"math", "torch", "torch._C._functorch", "torch.utils.checkpoint", "warnings"}


def test_source_is_the_same_in_every_process_and_hash_seed():
    code = "import sys; sys.path.insert(0, 'tests'); import zoo; print(''.join(zoo.network(n, k, o, trainable=['tau']).source for n in ('perona-malik 3d', 'coefficient and g 2d', 'mixed operator 1d') for k in ('no-flux', 'mixed') for o in (2,)))"
    root = Path(__file__).parents[1]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4711")
    }
    assert len(seen) == 1 and len(seen.pop()) > 1000


def test_awkward_names_do_not_collide():
    """Parameters and fields may be called what the emitted code calls its own things."""
    for name in ("s", "q", "g", "k", "w", "u_x", "state", "low", "flux_x", "bound", "dtype", "super", "steps"):
        p = loom.parameter(name, 0.3, positive=True)
        g = loom.diffusivity("perona-malik", p)
        pde = loom.PDE(Eq(loom.dt(zoo.U), zoo.isotropic(g, zoo.U)), boundary=loom.NoFlux())
        net = loom.compile(pde, scheme=loom.ForwardEuler(2), trainable=[p])
        out, expected = run(net, (1, 1, 6, 7))
        assert abs(out - expected).max() < 1e-12, name
    for name in ("k", "w", "low", "bound"):  # a keyword of forward keeps its name, or is refused
        a = loom.data(name, zoo.x, zoo.y)
        pde = loom.PDE(Eq(loom.dt(zoo.U), loom.laplacian(zoo.U) + a - zoo.U), boundary=loom.NoFlux())
        with pytest.raises(loom.DeclarationError, match="rename it"):
            loom.compile(pde, scheme=loom.ForwardEuler(2))
    for name in ("tau", "stencil", "self", "torch", "exp", "lambda", "λ", "_x", "t"):
        with pytest.raises(loom.DeclarationError):
            loom.parameter(name, 0.3)


@pytest.mark.parametrize(
    "e",
    [
        "Max(x, 0)",
        "Min(x, y, 2)",
        "Heaviside(x)",
        "sqrt(2)*x",
        "x**Rational(3, 2)",
        "1/sqrt(x + 1)",
        "exp(-x**2/y**2)",
        "x*y/(x + y)",
        "Abs(x) - pi",
        "sign(x)*tanh(y)",
        "-x - y/3",
        "x**-3",
        "log(1 + x**2)/2",
    ],
)
def test_torch_printer_against_sympy(e):
    x, y = sp.symbols("x y", real=True)
    expression = sp.sympify(e, locals={"x": x, "y": y})
    values = {"x": torch.tensor([0.3, 1.7], dtype=torch.float64), "y": torch.tensor([0.9, 0.2], dtype=torch.float64)}
    out = eval(torch_code(expression), {"torch": torch}, values)
    expected = [
        float(expression.subs({x: float(a), y: float(b)})) for a, b in zip(values["x"], values["y"], strict=True)
    ]
    assert out.tolist() == pytest.approx(expected, rel=1e-14)
