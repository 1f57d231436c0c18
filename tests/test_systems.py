"""Systems of equations: every field a channel of the state, each with its own equation, coupled by reactions, data and
diffusivities."""

import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp
import torch
import zoo
from scipy.integrate import solve_ivp
from scipy.sparse import diags, eye, kron
from sympy import Eq

import pdeloom as loom

X, Y = loom.coordinates("x y")
U, V = loom.field("u", X, Y), loom.field("v", X, Y)
F = loom.data("f", X, Y)
FEED, KILL = loom.parameter("feed", 0.04, positive=True), loom.parameter("kill", 0.06, positive=True)
G = loom.diffusivity("perona-malik", 0.3)
JOINT = G(loom.norm2(loom.grad(U)) + loom.norm2(loom.grad(V)))

SYSTEMS = {
    "gray-scott": [
        Eq(loom.dt(U), 0.16 * loom.laplacian(U) - U * V**2 + FEED * (1 - U)),
        Eq(loom.dt(V), 0.08 * loom.laplacian(V) + U * V**2 - (FEED + KILL) * V),
    ],
    "fitzhugh-nagumo": [Eq(loom.dt(U), loom.laplacian(U) + U - U**3 - V), Eq(loom.dt(V), 0.1 * (U - V))],
    "joint": [Eq(loom.dt(w), loom.div(JOINT * loom.grad(w))) for w in (U, V)],
    "separate": [
        Eq(loom.dt(U), loom.div(G(loom.norm2(loom.grad(U))) * loom.grad(U))),
        Eq(loom.dt(V), loom.div(G(loom.norm2(loom.grad(V))) * loom.grad(V))),
    ],
    "exchange": [Eq(loom.dt(U), loom.laplacian(U) + 0.3 * (V - U)), Eq(loom.dt(V), loom.laplacian(V) + 0.3 * (U - V))],
    "data": [Eq(loom.dt(U), loom.laplacian(U) + 0.2 * (F - U)), Eq(loom.dt(V), F)],
    "reads the other": [Eq(loom.dt(U), loom.laplacian(U)), Eq(loom.dt(V), loom.div(1 / (1 + U**2) * loom.grad(V)))],
}
BOUNDARIES = {
    "no flux": loom.NoFlux(),
    "walls": {X: (loom.Dirichlet(1), loom.NoFlux()), Y: loom.Periodic()},
}
SCHEMES = {
    "explicit": loom.ForwardEuler(3, tau=0.05),
    "rk4": loom.RungeKutta(4, steps=2, tau=0.05),
    "fsi": loom.FSI(1, 3, tau=0.05),
    "du fort-frankel": loom.DuFortFrankel(3, tau=0.05, alpha=10.0),
    "implicit": loom.BackwardEuler(2, tau=0.3),
    "semi-implicit": loom.SemiImplicit(2, tau=0.3),
    "aos": loom.AOS(2, tau=0.3),
}


def compiled(name, scheme=SCHEMES["explicit"], boundary=BOUNDARIES["no flux"], **options):
    equations = SYSTEMS[name] if isinstance(name, str) else name
    return loom.compile(loom.PDE(equations, boundary=boundary), scheme=scheme, **{"unstable": "allow", **options})


def sample(net, seed=0, shape=(7, 6)):
    rng = np.random.default_rng(seed)
    data = {str(f.func): torch.from_numpy(rng.uniform(0.1, 1, (1, 1, *shape))) for f in net.compiled.problem.data}
    return torch.from_numpy(rng.uniform(0, 1, (2, 2, *shape))), data


def arrays(data):
    return {name: f.numpy() for name, f in data.items()}


# --- the network is the scheme --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", SYSTEMS)
def test_the_module_is_the_reference(name, scheme):
    net = compiled(name, SCHEMES[scheme], BOUNDARIES["walls" if scheme in ("explicit", "implicit") else "no flux"])
    u, data = sample(net)
    tolerance = 1e-12 if not SCHEMES[scheme].structure.solves else 1e-8
    expected = torch.from_numpy(net.reference(u.numpy(), **arrays(data)))
    torch.testing.assert_close(net.module(torch.float64)(u, **data), expected, rtol=0, atol=tolerance)


def differences(n, h):
    """The second difference of n cells without flux through the ends, assembled here."""
    main = np.r_[1, np.full(n - 2, 2), 1]
    return diags([-main, np.ones(n - 1), np.ones(n - 1)], [0, 1, -1]) / h**2


def test_gray_scott_and_fitzhugh_nagumo_against_scipy():
    """Runge–Kutta steps tend to what solve_ivp makes of matrices written here, at fourth order."""
    nx, ny, h = 9, 8, 0.5
    A = kron(differences(nx, h), eye(ny)) + kron(eye(nx), differences(ny, h))
    rates = {
        "gray-scott": lambda u, v: (
            0.16 * A @ u - u * v**2 + 0.04 * (1 - u),
            0.08 * A @ v + u * v**2 - 0.1 * v,
        ),
        "fitzhugh-nagumo": lambda u, v: (A @ u + u - u**3 - v, 0.1 * (u - v)),
    }
    start = np.random.default_rng(3).uniform(0, 1, (2, nx * ny))
    for name, rate in rates.items():
        exact = solve_ivp(
            lambda _, w, rate=rate: np.concatenate(rate(*w.reshape(2, -1))), (0, 1), start.ravel(), rtol=1e-11,
            atol=1e-12,
        ).y[:, -1]  # fmt: skip
        errors = []
        for steps in (20, 40):
            net = compiled(name, loom.RungeKutta(4, steps=steps, tau=1 / steps), grid=loom.Grid(h))
            found = net.module(torch.float64)(torch.from_numpy(start.reshape(1, 2, nx, ny))).numpy().ravel()
            errors.append(abs(found - exact).max())
        assert errors[1] < 2e-5 and np.log2(errors[0] / errors[1]) > 3.5


def test_gray_scott_against_py_pde():
    peer = pytest.importorskip("pde")
    u0 = np.random.default_rng(4).uniform(0, 1, (2, 8, 7))
    grid = peer.CartesianGrid([[0, 8], [0, 7]], [8, 7], periodic=True)
    equation = peer.PDE({
        "u": "0.16*laplace(u) - u*v**2 + 0.04*(1 - u)",
        "v": "0.08*laplace(v) + u*v**2 - 0.1*v",
    })  # fmt: skip
    fields = peer.FieldCollection([peer.ScalarField(grid, w) for w in u0])
    wanted = equation.solve(fields, t_range=5, dt=0.25, tracker=None, backend="numpy", solver="explicit").data
    net = compiled("gray-scott", loom.ForwardEuler(20, tau=0.25), loom.Periodic())
    np.testing.assert_allclose(net.reference(u0[None])[0], wanted, atol=1e-12)


PEERS = {
    "no flux": (loom.NoFlux(), {"derivative": 0}),
    "Dirichlet": (loom.Dirichlet(0.3), {"value": 0.3}),
    "Neumann": (loom.Neumann(-0.2), {"derivative": -0.2}),
    "Robin": (loom.Robin(2, 1, 0.5), {"type": "mixed", "value": 2, "const": 0.5}),
}


@pytest.mark.parametrize("wall", PEERS)
@pytest.mark.parametrize("reaction", ["", " + u - u**3"], ids=["heat", "Allen-Cahn"])
def test_heat_and_allen_cahn_against_py_pde(reaction, wall):
    """Cells, walls on their faces and explicit Euler are the same, and so are the numbers."""
    peer = pytest.importorskip("pde")
    boundary, bc = PEERS[wall]
    u0 = np.random.default_rng(5).uniform(-1, 1, (9, 7))
    grid = peer.CartesianGrid([[0, 4.5], [0, 3.5]], [9, 7])
    equation = peer.PDE({"u": f"laplace(u){reaction}"}, bc=bc)
    wanted = equation.solve(peer.ScalarField(grid, u0), t_range=1, dt=0.025, tracker=None, backend="numpy",
                            solver="explicit").data  # fmt: skip
    net = loom.compile(
        loom.PDE(Eq(loom.dt(U), loom.laplacian(U) + (U - U**3) * int(bool(reaction))), boundary=boundary),
        scheme=loom.ForwardEuler(40, tau=0.025),
        grid=loom.Grid(0.5, centering="cell"),
    )
    np.testing.assert_allclose(net.reference(u0[None, None])[0, 0], wanted, rtol=0, atol=1e-12)


def kuramoto_sivashinsky(steps):
    """u_t = −Δu − Δ²u − |∇u|²/2, whose last term reads centred differences at the nodes."""
    right = -loom.laplacian(U) - loom.laplacian(loom.laplacian(U)) - loom.norm2(loom.smooth(loom.grad(U), 0)) / 2
    return loom.compile(
        loom.PDE(Eq(loom.dt(U), right), boundary=loom.Periodic()), scheme=loom.ForwardEuler(steps, tau=0.01),
        unstable="allow",
    )  # fmt: skip


def test_kuramoto_sivashinsky_against_py_pde():
    """The same differences, and so the same numbers."""
    peer = pytest.importorskip("pde")
    u0 = np.random.default_rng(4).uniform(0, 1, (9, 8))
    grid = peer.CartesianGrid([[0, 9], [0, 8]], [9, 8], periodic=True)
    equation = peer.PDE({"u": "-laplace(u) - laplace(laplace(u)) - 0.5*gradient_squared(u)"})
    wanted = equation.solve(peer.ScalarField(grid, u0), t_range=0.5, dt=0.01, tracker=None, backend="numpy",
                            solver="explicit").data  # fmt: skip
    np.testing.assert_allclose(kuramoto_sivashinsky(50).reference(u0[None, None])[0, 0], wanted, atol=1e-11)


def test_kuramoto_sivashinsky_against_matrices():
    """By differences written down with np.roll; the certificate claims nothing of a diffusion backwards."""
    net = kuramoto_sivashinsky(20)
    u = u0 = np.random.default_rng(5).uniform(0, 1, (9, 8))

    def laplace(v):
        return sum(np.roll(v, s, a) for a in (0, 1) for s in (1, -1)) - 4 * v

    for _ in range(20):
        slopes = sum(((np.roll(u, -1, a) - np.roll(u, 1, a)) / 2) ** 2 for a in (0, 1))
        u = u + 0.01 * (-laplace(u) - laplace(laplace(u)) - slopes / 2)
    found = net.module(torch.float64)(torch.from_numpy(u0)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(found, u, atol=1e-12)
    assert all(result.status != "proved" for result in net.stability)


def test_fields_that_do_not_read_each_other_run_alone():
    net = compiled("separate", loom.ForwardEuler(5))
    one = loom.compile(loom.PDE(SYSTEMS["separate"][0], boundary=loom.NoFlux()), scheme=loom.ForwardEuler(5))
    assert net.stability.tau == one.stability.tau
    u, _ = sample(net)
    both = net.module(torch.float64)(u)
    alone = one.module(torch.float64)
    torch.testing.assert_close(both, torch.cat([alone(u[:, :1]), alone(u[:, 1:])], 1), rtol=0, atol=1e-14)


def test_waves_of_two_fields():
    equations = [Eq(loom.dt(U, 2), loom.laplacian(U) + 0.3 * (V - U)), Eq(loom.dt(V, 2), loom.laplacian(V))]
    net = compiled(equations, loom.Leapfrog(4, tau=0.2))
    u, _ = sample(net)
    velocity = torch.ones_like(u)
    expected = torch.from_numpy(net.reference(u.numpy(), velocity.numpy()))
    torch.testing.assert_close(net.module(torch.float64)(u, velocity), expected, rtol=0, atol=1e-12)


# --- what is proved -------------------------------------------------------------------------------------------


def test_joint_diffusion_is_one_gradient_flow():
    """|∇u|² + |∇v|² in one diffusivity: norms and one energy decrease, and colours may be exchanged."""
    net = compiled("joint", loom.ForwardEuler(4), unstable="refuse")
    proved = {r.notion for r in net.stability if r.status == "proved"}
    assert {"norm decrease", "energy decrease", "maximum principle"} <= proved
    assert net.stability["norm decrease"].bound == pytest.approx(2 / 8)  # as for one field, and no smaller
    module, (u, _) = net.module(torch.float64), sample(net)
    assert (module(u).flatten(1).norm(dim=1) <= u.flatten(1).norm(dim=1)).all()
    assert (module.energy(module(u)) <= module.energy(u)).all()
    torch.testing.assert_close(module(u.flip(1)), module(u).flip(1), rtol=0, atol=1e-14)
    leaf = u.clone().requires_grad_()
    module.energy(leaf).sum().backward()
    rate = torch.from_numpy(net.compiled.reference().rate(u.numpy()))
    torch.testing.assert_close(-leaf.grad, rate, rtol=0, atol=1e-12)


def test_one_density_for_all_fields():
    """−δE/δu and −δE/δv of one density are the system written by hand."""
    joint = loom.norm2(loom.grad(U)) + loom.norm2(loom.grad(V))
    density = sp.Rational(9, 200) * sp.log(1 + joint / sp.Rational(9, 100))
    net = compiled([loom.gradient_flow(density, w) for w in (U, V)])
    u, _ = sample(net)
    np.testing.assert_allclose(net.reference(u.numpy()), compiled("joint").reference(u.numpy()), atol=1e-13)
    assert net.stability["energy decrease"].status == "proved"


def test_a_system_has_the_bound_of_its_stiffest_field():
    equations = [Eq(loom.dt(U), loom.laplacian(U)), Eq(loom.dt(V), 3 * loom.laplacian(V) - 0.5 * V)]
    net = compiled(equations, loom.ForwardEuler(1), unstable="refuse")
    norm = net.stability["norm decrease"]
    assert norm.status == "proved" and norm.bound == pytest.approx(2 / (8 * 3 + 0.5))
    with pytest.raises(loom.UnstableSchemeError, match="exceeds"):
        compiled(equations, loom.ForwardEuler(1, tau=0.1), unstable="refuse")
    D = loom.parameter("D", 0.5, positive=True)
    trained = compiled(
        [Eq(loom.dt(U), loom.laplacian(U)), Eq(loom.dt(V), D * loom.laplacian(V))], loom.ForwardEuler(2),
        trainable=[D, "tau"], unstable="refuse",
    ).module(torch.float64)  # fmt: skip
    assert trained.certificate()["tau_max"] == pytest.approx([2 / 8] * 2)
    with torch.no_grad():
        trained.log_D.fill_(float(np.log(4.0)))
    assert trained.certificate()["tau_max"] == pytest.approx([2 / 32] * 2)
    assert trained.certificate()["status"] == "proved"


def test_a_coupling_reaction_is_said_to_be_open():
    """The step of the diffusion is checked, the growth that the reaction brings is not excluded."""
    net = compiled("gray-scott", loom.ForwardEuler(1), unstable="refuse")
    result = net.stability["von Neumann"]
    assert net.stability.governing == "von Neumann" and result.status == "unknown"
    assert result.bound == pytest.approx(2 / (0.16 * 8)) and "reaction" in net.stability.warnings[0]
    with pytest.raises(loom.UnstableSchemeError, match=r"exceeds 1\.5625"):
        compiled("gray-scott", loom.ForwardEuler(1, tau=1.6), unstable="refuse")
    assert {"unknown", "refuted"} >= {r.status for r in net.stability}


def test_different_betas_are_not_one():
    equations = [Eq(loom.dt(U), loom.laplacian(U) + 0.2 * (F - U)), Eq(loom.dt(V), loom.laplacian(V) + 0.1 * (F - V))]
    assert compiled(equations).stability["norm decrease"].status == "unknown"
    same = [Eq(loom.dt(w), loom.laplacian(w) + 0.2 * (F - w)) for w in (U, V)]
    found = compiled(same).stability["norm decrease"]
    assert found.status == "proved" and found.bound == pytest.approx(2 / 8.4)


def test_asymmetric_couplings_need_no_symmetric_solver():
    skew = [Eq(loom.dt(U), loom.laplacian(U) + V), Eq(loom.dt(V), loom.laplacian(V) - U)]
    net = compiled(skew, loom.BackwardEuler(1, tau=0.5))
    assert net.compiled.plan.method == "bicgstab"
    with pytest.raises(loom.SchemeError, match="gradient of one energy"):
        compiled(skew, loom.BackwardEuler(1, tau=0.5, solver="cg"))
    with pytest.raises(loom.SchemeError, match="Multigrid"):
        compiled(skew, loom.BackwardEuler(1, tau=0.5, solver=loom.Multigrid(1)))
    line = loom.coordinates("x")
    a, b = loom.field("a", line), loom.field("b", line)
    pair = [Eq(loom.dt(a), loom.laplacian(a) + b), Eq(loom.dt(b), loom.laplacian(b) - a)]
    with pytest.raises(loom.SchemeError, match="thomas"):
        compiled(pair, loom.BackwardEuler(1, tau=0.5, solver="thomas"))
    alone = compiled(pair, loom.SemiImplicit(1, tau=0.5))
    assert alone.compiled.plan.method == "thomas"  # the reaction stays explicit


# --- training, text, files ------------------------------------------------------------------------------------


def test_a_system_trains_compiles_exports_and_maps():
    net = compiled("gray-scott", trainable=[FEED, "tau", "stencil"])
    module, (u, _) = net.module(torch.float64), sample(net)
    out = module(u)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert torch.autograd.gradcheck(module, u[:1, :, :3, :3].clone().requires_grad_())
    mapped = torch.vmap(lambda v: module(v[None])[0])(u)
    torch.testing.assert_close(mapped, out, rtol=0, atol=1e-14)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="aot_eager")(u), out, rtol=0, atol=1e-12)
    exported = torch.export.export(module, (u,)).module()
    torch.testing.assert_close(exported(u), out, rtol=0, atol=1e-14)


def test_the_feed_rate_is_found_again():
    """Two trajectories of Gray–Scott tell its parameter."""
    truth, u = compiled("gray-scott", loom.ForwardEuler(10, tau=0.5)), sample(compiled("gray-scott"))[0]
    target = torch.from_numpy(truth.reference(u.numpy()))
    guess = loom.parameter("feed", 0.1, positive=True)
    equations = [e.xreplace({FEED: guess}) for e in SYSTEMS["gray-scott"]]
    module = compiled(equations, loom.ForwardEuler(10, tau=0.5), trainable=[guess], shared=True).module(torch.float64)
    zoo.fitted(module, u, target)
    assert float(module.log_feed.detach().exp()) == pytest.approx(0.04, rel=1e-4)


def test_text_saves_and_lifts(tmp_path):
    net = compiled("gray-scott", trainable=[FEED])
    module = net.module(torch.float64)
    with torch.no_grad():
        module.log_feed += 0.5
    again = loom.load(net.save(tmp_path, module))
    u, _ = sample(net)
    torch.testing.assert_close(again.module(torch.float64)(u), module(u), rtol=0, atol=1e-6)
    assert again.source == net.source
    pde = loom.parse(
        ["dt(u) = 0.16*laplacian(u) - u*v**2 + feed*(1 - u)", "dt(v) = 0.08*laplacian(v) + u*v**2 - (feed + kill)*v"],
        coordinates=["x", "y"], fields=["u", "v"], parameters={"feed": FEED, "kill": KILL}, boundary="no-flux",
    )  # fmt: skip
    assert loom.compile(pde, scheme=SCHEMES["explicit"], trainable=["feed"], unstable="allow").source == net.source
    equations = loom.lift(net.module()).equations[0]
    assert [e.lhs for e in equations] == [loom.dt(U), loom.dt(V)] and "∂t v" in str(loom.lift(net.module()))
    assert equations[0].rhs.subs(FEED, 0.04).atoms(sp.Derivative)
    net.report(tmp_path / "report.html")
    assert "reaction_v" in net.explain()


def test_the_report_draws_the_energy_of_a_system(tmp_path):
    page = compiled("joint", loom.ForwardEuler(2)).report(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "E(u)" in page


def test_trained_stencils_of_a_system_are_read_back():
    net = compiled("exchange", trainable=["stencil"])
    lifted = loom.lift(net.module(), order=2).equations[0]
    again = compiled(list(lifted), loom.ForwardEuler(3, tau=0.05))
    u, _ = sample(net)
    np.testing.assert_allclose(again.reference(u.numpy()), net.reference(u.numpy()), atol=1e-12)


ERRORS = {
    "too few": (lambda: compiled([Eq(loom.dt(U), V), Eq(loom.dt(U), U)]), loom.DeclarationError, "its own"),
    "one for two": (lambda: compiled([Eq(loom.dt(U), V)]), loom.DeclarationError, r"1 equation for 2 fields \(u, v\)"),
    "no time": (lambda: compiled([Eq(loom.dt(U), V), Eq(0, loom.laplacian(V))]), loom.DeclarationError, "its own"),
    "two orders": (
        lambda: compiled([Eq(loom.dt(U, 2), loom.laplacian(U)), Eq(loom.dt(V), loom.laplacian(V))]),
        loom.UnsupportedTermError, "orders 2, 1",
    ),
    "cross-diffusion": (
        lambda: compiled([Eq(loom.dt(U), loom.laplacian(V)), Eq(loom.dt(V), loom.laplacian(V))], loom.ForwardEuler(2)),
        loom.UnstableSchemeError, "not symmetric",
    ),
    "cross-diffusion with g": (
        lambda: compiled([Eq(loom.dt(U), loom.div(U * loom.grad(V))), Eq(loom.dt(V), loom.laplacian(V))], loom.ForwardEuler(2)),
        loom.UnstableSchemeError, "not symmetric",
    ),
    "transport": (
        lambda: compiled([Eq(loom.dt(U), loom.d(U * V, X)), Eq(loom.dt(V), U)], boundary=loom.Periodic()),
        loom.DiscretisationError, "rusanov",
    ),
    "the name of the state": (
        lambda: compiled([Eq(loom.dt(V), loom.data("u", X, Y))]), loom.DeclarationError, "'u'",
    ),
    "its name": (
        lambda: compiled([Eq(loom.dt(U), U + loom.data("fields", X, Y)), Eq(loom.dt(V), U)]),
        loom.DeclarationError, "'fields'",
    ),
    "other coordinates": (
        lambda: compiled([Eq(loom.dt(U), loom.laplacian(U)), Eq(loom.dt(zoo.V), loom.laplacian(zoo.V))]),
        loom.DeclarationError, "coordinates",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_culprit(case):
    make, kind, text = ERRORS[case]
    with pytest.raises(kind, match=text):
        make()


def test_states_of_the_wrong_width_are_refused():
    net = compiled("data")
    u, data = sample(net)
    with pytest.raises(ValueError, match=r"\(B, 2, X, Y\)"):
        net.module(torch.float64)(u[:, :1], **data)
    with pytest.raises(loom.DataError, match=r"\(B, 2, \*grid\)"):
        net.reference(u[:, :1].numpy(), **arrays(data))
    with pytest.raises(ValueError, match="f has shape"):
        net.module(torch.float64)(u, f=u)


@pytest.mark.parametrize("i", range(3))
def test_the_page_in_the_docs_is_true(i, capsys):
    text = (Path(__file__).parents[1] / "docs" / "language.md").read_text(encoding="utf-8")
    code, expected = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, flags=re.DOTALL)[i]
    exec(code, {})
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize("cubic", [False, True])
def test_one_long_step_is_the_steady_state(cubic):
    """0 = Δu + 3v + f − u³ and 0 = 2Δv − 3u − v between walls of 0, against a dense solve."""
    p, q, f = loom.field("p", X, Y), loom.field("q", X, Y), loom.data("f", X, Y)
    n, h = 8, 1 / 9
    pde = loom.PDE(
        [
            Eq(loom.dt(p), loom.laplacian(p) + 3 * q + f - (p**3 if cubic else 0)),
            Eq(loom.dt(q), 2 * loom.laplacian(q) - 3 * p - q),
        ],
        boundary=loom.Dirichlet(0),
    )
    net = loom.compile(pde, scheme=loom.BackwardEuler(1, tau=1e8), grid=loom.Grid(h), unstable="allow")
    given = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, n, n))).requires_grad_()
    module = net.module(torch.float64)
    found = module(torch.zeros(1, 2, n, n, dtype=torch.float64), f=given)
    T = (np.diag(np.full(n, -2.0)) + np.diag(np.ones(n - 1), 1) + np.diag(np.ones(n - 1), -1)) / h**2
    A, eye = np.kron(T, np.eye(n)) + np.kron(np.eye(n), T), np.eye(n * n)
    u, v = found.detach().numpy().reshape(2, -1)
    right = given.detach().numpy().ravel()
    assert abs(A @ u + 3 * v + right - cubic * u**3).max() < 1e-7 * abs(right).max()
    assert abs(2 * A @ v - 3 * u - v).max() < 1e-7 * abs(right).max()
    jacobian = np.block([[A - cubic * 3 * np.diag(u**2), 3 * eye], [-3 * eye, 2 * A - eye]])
    (gradient,) = torch.autograd.grad(found.sum(), given)
    exact = -np.linalg.solve(jacobian.T, np.ones(2 * n * n))[: n * n]
    np.testing.assert_allclose(gradient.numpy().ravel(), exact, rtol=1e-6)
