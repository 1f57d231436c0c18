"""Implicit steps: every solver, its contract, its refusals, and gradients that do not depend on the iterations."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse.linalg
import sympy as sp
import torch
import zoo

import pdeloom as loom


def network(
    equation="perona-malik 2d", kind="no-flux", cls=loom.BackwardEuler, steps=1, tau=0.1, trainable=(), **solver
):
    return loom.compile(
        zoo.pde(equation, kind),
        scheme=cls(steps, tau=tau, solver=loom.Solver(**solver)),
        trainable=list(trainable),
        unstable="allow",
    )


WORKS = {  # method: equation, τ
    "auto": ("perona-malik 2d", 5.0),
    "fixed-point": ("perona-malik 2d", 0.1),
    "damped": ("charbonnier 2d", 2.0),
    "anderson": ("perona-malik 2d", 0.5),
    "newton-krylov": ("weickert 2d", 3.0),
    "cg": ("heat 2d", 20.0),
    "bicgstab": ("heat 3d", 5.0),
    "thomas": ("heat 1d", 50.0),
}


@pytest.mark.parametrize("method", WORKS)
@pytest.mark.parametrize("kind", ["no-flux", "dirichlet", "mixed", "periodic"])
def test_every_method_solves_the_equation(method, kind):
    """The residual of implicit Euler, evaluated by the NumPy right-hand side."""
    equation, tau = WORKS[method]
    if method == "thomas" and kind == "periodic":
        pytest.skip("a periodic axis is not tridiagonal; see the refusals")
    net = network(equation, kind, tau=tau, method=method)
    u, _ = zoo.sample(net)
    module = net.module(torch.float64)
    with torch.no_grad():
        v, history = module(u, history=True)
    defect = v.numpy() - u.numpy() - tau * net.reference.rate(v.numpy())
    assert np.linalg.norm(defect) <= 3e-10 * np.linalg.norm(u.numpy())
    assert float(module.residual) <= 2e-10
    assert len(history) == 1 and history[0].shape[1] == 2 and history[0][-1].max() <= 2e-10
    assert history[0][0].max() > 1e-3, "the first guess is not the solution"


def test_the_default_method_fits_the_problem():
    chosen = {
        ("heat 1d", loom.BackwardEuler): "thomas",
        ("heat 2d", loom.BackwardEuler): "cg",
        ("perona-malik 2d", loom.BackwardEuler): "newton-krylov",
        ("perona-malik 2d", loom.SemiImplicit): "cg",
        ("separable 3d", loom.AOS): "thomas",
        ("separable 2d", loom.ADI): "thomas",
    }
    for (equation, cls), method in chosen.items():
        assert loom.compile(zoo.pde(equation), scheme=cls(1, tau=1.0)).compiled.plan.method == method


def test_cg_and_thomas_against_scipy():
    rng = np.random.default_rng(0)
    for equation, shape, tau in (("heat 2d", (6, 7), 3.0), ("heat 1d", (30,), 40.0)):
        net = network(equation, tau=tau)
        n = int(np.prod(shape))
        A = net.reference.rate(np.eye(n).reshape(n, 1, *shape)).reshape(n, n).T
        u = rng.random((1, 1, *shape))
        wanted = scipy.sparse.linalg.spsolve(scipy.sparse.csc_matrix(np.eye(n) - tau * A), u.ravel())
        found = net.module(torch.float64)(torch.from_numpy(u)).numpy()
        np.testing.assert_allclose(found.ravel(), wanted, atol=1e-9)


def test_thomas_is_batched_and_solves_every_line():
    net = loom.compile(zoo.pde("separable 2d"), scheme=loom.AOS(2, tau=7.0))
    u, _ = zoo.sample(net, batch=5)
    with torch.no_grad():
        np.testing.assert_allclose(net.module(torch.float64)(u).numpy(), net.reference(u.numpy()), atol=1e-9)


def test_a_sample_does_not_depend_on_its_batch():
    net = network(tau=5.0, steps=2)
    u, _ = zoo.sample(net, batch=4)
    u = u * torch.tensor([0.01, 0.3, 1.0, 30.0], dtype=torch.float64).reshape(4, 1, 1, 1)
    module = net.module(torch.float64)
    with torch.no_grad():
        together = module(u)
        for i in range(4):
            torch.testing.assert_close(module(u[i : i + 1])[0], together[i], rtol=1e-8, atol=1e-9)


# --- the contract -----------------------------------------------------------------------------------------------


def test_a_solve_that_does_not_converge_is_an_error_with_its_history():
    module = network(tau=5.0, method="anderson", max_iterations=3).module(torch.float64)
    u = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    with pytest.raises(loom.ConvergenceError, match=r"after 3 iterations; .*newton-krylov") as caught:
        module(u)
    assert len(caught.value.history) == 4 and isinstance(caught.value, loom.PdeloomError)


def test_failure_may_warn_or_be_accepted():
    u = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    warned = network(tau=5.0, method="anderson", max_iterations=3, on_failure="warn").module(torch.float64)
    with pytest.warns(RuntimeWarning, match="stopped at the relative residual"):
        first = warned(u)
    accepted = network(tau=5.0, method="anderson", max_iterations=3, on_failure="accept").module(torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = accepted(u)
    torch.testing.assert_close(first, second)
    assert float(accepted.residual) > 1e-6


def test_nothing_that_is_not_finite_passes():
    module = network(tau=1.0, on_failure="accept").module(torch.float64)
    with pytest.raises(loom.ConvergenceError):
        module(torch.full((1, 1, 8, 8), float("nan"), dtype=torch.float64))


def test_a_fixed_number_of_iterations_is_a_network_of_fixed_length():
    module = network(tau=0.1, method="fixed-point", iterations=7, steps=2).module(torch.float64)
    u = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    _, history = module(u, history=True)
    assert [len(h) for h in history] == [8, 8]
    ratios = history[0][1:] / history[0][:-1]
    assert ratios.max() <= 0.8 + 1e-9, "each iteration contracts by τ·sup|Φ'|·‖K‖² = 0.8"


def test_histories_come_on_request_only():
    module = network(tau=1.0, steps=3).module(torch.float64)
    u = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    assert isinstance(module(u), torch.Tensor)
    new, history = module(u, history=True)
    assert new.shape == u.shape and len(history) == 3
    assert all(h.shape[1] == 2 and (h[-1] <= 1e-10).all() for h in history)


def test_the_emitted_code_is_an_rnn():
    source = network(tau=0.1, method="fixed-point").source
    assert "hidden state" in source and "tied" in source
    assert "def recur(cell, hidden, scale, tolerance, most, traced):" in source
    assert "cell = fixed_point(residual, 1)" in source


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_reaches_its_own_tolerance(dtype):
    for equation, cls in (
        ("perona-malik 2d", loom.BackwardEuler),
        ("heat 2d", loom.BackwardEuler),
        ("separable 2d", loom.AOS),
    ):
        net = network(equation, cls=cls, tau=1.0, steps=2)
        u, _ = zoo.sample(net)
        low = net.module(dtype)(u.to(dtype))
        exact = net.module(torch.float64)(u)
        error = (low.double() - exact).norm() / exact.norm()
        assert error < {torch.float32: 1e-4, torch.bfloat16: 0.15}[dtype]


# --- refusals -------------------------------------------------------------------------------------------------

WRONG = {
    "fixed point over its bound": (lambda: network(tau=0.2, method="fixed-point"), r"tau < 0\.125 .*newton-krylov"),
    "cg on a nonlinear equation": (lambda: network(method="cg"), "newton-krylov"),
    "cg on a nonsymmetric operator": (
        lambda: network("mixed operator 1d", method="cg", cls=loom.BackwardEuler),
        "nonlinear",
    ),
    "cg on a negative spectrum": (
        lambda: network("forward-and-backward 2d", cls=loom.SemiImplicit, method="cg"),
        "positive definite.*bicgstab",
    ),
    "thomas in 2-D": (lambda: network("heat 2d", method="thomas"), "cg"),
    "thomas on a periodic axis": (lambda: network("heat 1d", "periodic", method="thomas"), "not periodic"),
    "thomas for a wide stencil": (
        lambda: network("fourth order 1d", cls=loom.SemiImplicit, method="thomas"),
        "neighbours",
    ),
    "too much damping": (lambda: network("heat 2d", tau=2.0, method="damped", damping=1.0), "damping <"),
    "unknown method": (lambda: loom.Solver("newton"), "did you mean 'newton-krylov'"),
    "unknown keyword": (lambda: loom.Solver(tolerance=1e-3), "tol"),
    "tolerance below precision": (lambda: loom.Solver(tol=1e-17), "precision of float64"),
    "tolerance over one": (lambda: loom.Solver(tol=2.0), "must lie between"),
    "no iterations": (lambda: loom.Solver(max_iterations=0), "from 1 on"),
    "unknown gradient": (lambda: loom.Solver(gradient="adjoint"), "implicit"),
    "damping for cg": (lambda: loom.Solver("cg", damping=0.5), "damped and anderson read damping"),
    "memory for damped": (lambda: loom.Solver("damped", memory=3), "only anderson read memory"),
    "two lengths": (lambda: loom.Solver(iterations=5, max_iterations=9), "one of the two"),
    "a failure that cannot be": (lambda: loom.Solver(iterations=5, on_failure="warn"), "one of the two"),
    "unknown failure": (lambda: loom.Solver(on_failure="ignore"), "accept"),
    "not a solver": (lambda: loom.BackwardEuler(1, solver=3), "Solver"),
    "tolerance below float32": (
        lambda: network(tol=1e-9).module(torch.float32),
        "below the precision of torch.float32",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_work_is_refused_with_the_cure(case):
    attempt, cure = WRONG[case]
    with pytest.raises(loom.PdeloomError, match=cure):
        attempt()


def test_the_method_that_the_refusal_names_works():
    u = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    for method in ("newton-krylov", "anderson"):
        network(tau=0.2, method=method).module(torch.float64)(u)
    network(tau=0.124, method="fixed-point").module(torch.float64)(u)


# --- gradients ------------------------------------------------------------------------------------------------

CASES = [
    ("coefficient and g 2d", loom.BackwardEuler, "newton-krylov", 1.0),
    ("coefficient and g 2d", loom.BackwardEuler, "fixed-point", 0.04),
    ("coefficient and g 2d", loom.BackwardEuler, "anderson", 0.1),
    ("coefficient and g 2d", loom.SemiImplicit, "cg", 2.0),
    ("coefficient and g 2d", loom.SemiImplicit, "bicgstab", 2.0),
    ("coefficient and g 2d", loom.CrankNicolson, "newton-krylov", 1.0),
    ("separable 2d", loom.AOS, "thomas", 3.0),
    ("separable 2d", loom.ADI, "thomas", 1.0),
    ("odd flux 1d", loom.BackwardEuler, "damped", 1.0),
]


def gradients(equation, cls, method, tau, gradient, tol=1e-13):
    trained = [p for p in ("lam",) if p in str(zoo.EQUATIONS[equation])] + ["tau", "stencil"]
    net = network(equation, cls=cls, tau=tau, trainable=trained, steps=2, method=method, gradient=gradient, tol=tol)
    module = net.module(torch.float64)
    u, data = zoo.sample(net, requires_grad=True)
    out = module(u, **data)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)
    inputs = [u, *data.values(), *module.parameters()]
    return out, torch.autograd.grad((weight * out.sin()).sum(), inputs)


@pytest.mark.parametrize(("equation", "cls", "method", "tau"), CASES)
@pytest.mark.parametrize("other", ["unrolled", "checkpoint"])
def test_implicit_gradients_are_those_of_the_converged_iteration(equation, cls, method, tau, other):
    """For the state, the data, λ, τ and the stencils, to 1e-8."""
    out, implicit = gradients(equation, cls, method, tau, "implicit")
    same, unrolled = gradients(equation, cls, method, tau, other)
    torch.testing.assert_close(out, same, rtol=0, atol=1e-10)
    for a, b in zip(implicit, unrolled, strict=True):
        assert a.abs().max() > 1e-6
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("equation", "cls", "method", "tau"), CASES)
def test_implicit_gradients_against_finite_differences(equation, cls, method, tau):
    trained = [p for p in ("lam",) if p in str(zoo.EQUATIONS[equation])] + ["tau"]
    net = network(equation, cls=cls, tau=tau, trainable=trained, method=method, tol=1e-12)
    module = net.module(torch.float64)
    u, data = zoo.sample(net, batch=1, requires_grad=True)
    names = [n for n, _ in module.named_parameters()]
    weights = [p.detach().clone().requires_grad_() for p in module.parameters()]

    def run(u, *rest):
        for n, w in zip(names, rest[: len(names)], strict=True):
            module._parameters.pop(n, None)
            setattr(module, n, w)
        return module(u, **dict(zip(data, rest[len(names) :], strict=True)))

    for n in names:
        del module._parameters[n]
    assert torch.autograd.gradcheck(run, (u, *weights, *data.values()), atol=1e-6, fast_mode=True)


def saved_bytes(gradient, tol):
    """What autograd keeps for the backward pass, and the iterations that were run."""
    net = network("perona-malik 2d", tau=0.1, method="fixed-point", gradient=gradient, trainable=["lam"], tol=tol)
    module = net.module(torch.float64)
    kept: dict[int, int] = {}

    def pack(t):
        storage = t.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        out, history = module(torch.rand(1, 1, 64, 64, dtype=torch.float64), history=True)
    out.sum().backward()
    return sum(kept.values()), len(history[0])


def test_memory_of_the_backward_pass_does_not_grow_with_the_iterations():
    torch.manual_seed(0)
    (few, n_few), (many, n_many) = saved_bytes("implicit", 1e-2), saved_bytes("implicit", 1e-12)
    assert n_many > 4 * n_few and many <= 1.05 * few
    (short, _), (long, _) = saved_bytes("unrolled", 1e-2), saved_bytes("unrolled", 1e-12)
    assert long > 3 * short, "the unrolled one does: the measurement can fail"


def test_an_adjoint_that_does_not_converge_is_an_error():
    module = network("heat 2d", tau=50.0, method="cg").module(torch.float64)
    u = torch.rand(1, 1, 16, 16, dtype=torch.float64, requires_grad=True)
    out = module(u)
    module.most = 1
    with pytest.raises(loom.ConvergenceError, match="adjoint"):
        out.pow(2).sum().backward()


def test_functions_of_a_traced_network_solve_their_equation_too():
    """Under vmap, grad and export a recurrence has a fixed length, and the residual says how well it did."""
    net = network("perona-malik 2d", tau=1.0, tol=1e-8)
    module = net.module(torch.float64)
    u, _ = zoo.sample(net)
    jacobian = torch.func.jacrev(lambda v: module(v[None])[0].sum())(u[0])
    plain = u[:1].clone().requires_grad_()
    module(plain).sum().backward()
    torch.testing.assert_close(jacobian, plain.grad[0], rtol=1e-6, atol=1e-6)
    assert float(module.residual) < 1e-7


def test_ensembles_of_weights_share_one_input():
    net = network("perona-malik 2d", tau=0.05, method="fixed-point", tol=1e-8, trainable=["tau"])
    modules = [net.module(torch.float64) for _ in range(2)]
    with torch.no_grad():
        modules[1].log_tau += 0.3
    u, _ = zoo.sample(net)
    weights = {"log_tau": torch.stack([m.log_tau.detach() for m in modules])}
    with torch.no_grad():
        both = torch.vmap(lambda w: torch.func.functional_call(modules[0], w, (u,)))(weights)
        for each, module in zip(both, modules, strict=True):
            torch.testing.assert_close(each, module(u), rtol=1e-6, atol=1e-6)


# --- what a fresh pair of eyes found ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"iterations": 3}, {"on_failure": "warn"}, {"on_failure": "accept"}])
def test_a_solve_that_may_stop_early_proves_nothing(options):
    net = network("heat 1d", tau=100.0, method="cg", **options)
    assert {r.status for r in net.stability} <= {"unknown", "refuted"}
    assert net.module().certificate()["status"] == "unknown"
    converged = network("heat 1d", tau=100.0, method="cg").stability["norm decrease"]
    assert converged.status == "proved" and any("converges" in a for a in converged.assumptions)


def test_the_residual_is_known_under_compile_too():
    module = network("heat 2d", tau=20.0, method="cg", iterations=3).module(torch.float64)
    u = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    with torch.no_grad():
        module(u)
        eager = float(module.residual)
        torch.compile(module, fullgraph=True, backend="aot_eager")(u)
    assert eager > 0.1 and float(module.residual) == pytest.approx(eager)


@pytest.mark.parametrize("factor", [1e-24, 1e25, float("nan"), float("inf")])
def test_states_whose_squares_leave_the_dtype_are_refused(factor):
    module = network("heat 1d", tau=10.0).module(torch.float32)
    with pytest.raises(loom.ConvergenceError, match=r"rescale|not finite"):
        module(torch.rand(1, 1, 16) * factor)


def test_empty_batches_and_zero_states_pass():
    module = network("perona-malik 2d", tau=1.0).module(torch.float64)
    assert module(torch.zeros(0, 1, 8, 8, dtype=torch.float64)).shape == (0, 1, 8, 8)
    assert not module(torch.zeros(2, 1, 8, 8, dtype=torch.float64)).any()


def test_a_dtype_too_coarse_for_the_solve_is_refused():
    with pytest.raises(loom.SchemeError, match="finer dtype or a smaller tau"):
        network("heat 2d", tau=50.0).module(torch.bfloat16)
    with pytest.raises(loom.DeclarationError, match="bfloat16"):
        network("heat 2d").module(torch.float16)


def test_a_saved_certificate_is_strict_json(tmp_path):
    import json

    net = network("heat 1d", tau=3.0)
    net.save(tmp_path)

    def refuse(constant):
        raise AssertionError(constant)

    record = json.loads((tmp_path / "certificate.json").read_text(), parse_constant=refuse)
    assert record["certificate"]["tau_max"] == ["inf"]
    assert loom.load(tmp_path).net.source == net.source


@pytest.mark.parametrize("tau", [1e308, 10**400, np.array([0.1, 0.2]), float("inf")])
def test_steps_out_of_range_are_typed_errors(tau):
    with pytest.raises(loom.SchemeError):
        loom.compile(zoo.pde("heat 1d"), scheme=loom.BackwardEuler(1, tau=tau))


@pytest.mark.parametrize("given", [{"method": ["cg"]}, {"damping": np.array([0.1, 0.2])}])
def test_solver_keywords_of_the_wrong_kind_are_typed_errors(given):
    with pytest.raises(loom.SchemeError):
        loom.Solver(**given)


def test_anderson_in_bfloat16():
    u = torch.rand(1, 1, 12, dtype=torch.bfloat16)
    assert network("odd flux 1d", tau=0.5, method="anderson").module(torch.bfloat16)(u).isfinite().all()


@pytest.mark.parametrize("tau", [1.0, 20.0])
def test_transport_that_dominates_diffusion_by_centred_differences(tau):
    """BiCGStab of degree one had not converged after 2,000 iterations."""
    advected = sp.Eq(loom.dt(zoo.U), loom.laplacian(zoo.U) - 50 * loom.d(zoo.U, zoo.X))
    pde = loom.PDE(advected, boundary=loom.Periodic())
    net = loom.compile(pde, scheme=loom.BackwardEuler(1, tau=tau), unstable="allow")
    state = np.random.default_rng(0).standard_normal((1, 1, 64, 64))
    new, log = net.module(torch.float64)(torch.from_numpy(state), history=True)
    xi = 2 * np.pi * np.fft.fftfreq(64)  # symbols of the differences
    f = (2 * np.cos(xi) - 2)[:, None] + (2 * np.cos(xi) - 2) - 50j * np.sin(xi)[:, None]
    exact = np.fft.ifft2(np.fft.fft2(state) / (1 - tau * f)).real
    np.testing.assert_allclose(new.numpy(), exact, rtol=0, atol=1e-8)
    assert len(log[0]) < 1000
