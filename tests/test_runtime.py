"""Load, train, resume, save, report: and every file that may be damaged on the way."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zoo
from skimage.io import imsave
from skimage.restoration import denoise_tv_chambolle
from sympy import Eq

import pdeloom as loom
from pdeloom.runtime import cli
from pdeloom.runtime.checkpoint import read_checkpoint, read_record
from pdeloom.runtime.data import Patches, add_noise, as_image, load_images
from pdeloom.runtime.load import alike
from pdeloom.runtime.metrics import psnr, score, self_ensemble

ROOT = Path(__file__).parents[1]
SMALL = {"steps": 12, "batch": 4, "patch": 16, "save_every": 4, "progress": False}


def denoiser(steps=3, **options):
    options = {"trainable": ["lam", "tau"], **options}
    return zoo.network("perona-malik 2d", tau="auto", steps=steps, h=1.0, **options)


def images():
    rng = np.random.default_rng(0)
    return [np.clip(np.cumsum(rng.normal(size=(40, 44)), 1) / 20 + 0.5, 0, 1) for _ in range(3)]


def weights(module):
    return {k: v.clone() for k, v in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# --- loading source -------------------------------------------------------------------------------------------


def test_tracebacks_show_the_emitted_line():
    module = denoiser().module()
    try:
        module.step(None, 0)
    except TypeError as error:
        text = "".join(traceback.format_exception(error))
    assert "u_x = u[..., 1:" in text


def test_wrong_dtypes_are_refused():
    net = denoiser()
    for dtype in ("float64", torch.int32, np.float64):
        with pytest.raises(loom.DeclarationError, match="floating point"):
            net.module(dtype=dtype)
    with pytest.raises(loom.UnknownKeywordError, match="dtype"):
        net.module(dtpe=torch.float64)


# --- save and load --------------------------------------------------------------------------------------------

SAVED = [
    "perona-malik 2d",
    "mixed operator 1d",
    "coefficient and g 2d",
    "weickert 2d",
    "forward-and-backward 2d",
    "reaction 2d",
    "separable 3d",
]


@pytest.mark.parametrize("kind", ["no-flux", "walls"])
@pytest.mark.parametrize("name", SAVED)
def test_round_trip(name, kind, tmp_path):
    net = zoo.network(
        name, kind, 4, h=Fraction(1, 3), trainable=[p for p in ("lam",) if "lam" in str(zoo.EQUATIONS[name])]
    )
    module = net.module(dtype=torch.float64)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.1
    saved = loom.load(net.save(tmp_path / "net", module))
    assert saved.net.source == net.source
    assert same(weights(saved.module(dtype=torch.float64)), weights(module))
    assert saved.certificate["notion"] == net.stability.governing


def test_a_network_read_back_keeps_its_weights(tmp_path):
    net = denoiser()
    module = net.module(dtype=torch.float64)
    with torch.no_grad():
        for p in module.parameters():
            p += 0.3
    saved = loom.load(net.save(tmp_path / "a", module))
    again = loom.load(saved.save(tmp_path / "b"))
    assert same(weights(again.module(torch.float64)), weights(module)) and again.certificate == saved.certificate
    assert f"{module.certificate()['tau'][0]:.4g}" in saved.report(tmp_path / "r.html").read_text(encoding="utf-8")
    with pytest.raises(loom.CheckpointError, match="before training"):
        saved.reference  # noqa: B018
    assert loom.load(net.save(tmp_path / "c")).reference is not None
    assert same(weights(copy.deepcopy(saved).module()), weights(saved.module()))
    with pytest.raises(loom.UnknownKeywordError, match="dtype"):
        saved.module(dtpe=torch.float64)


def test_weights_that_are_not_finite_leave_a_folder_as_it_is(tmp_path):
    net = denoiser()
    module = net.module()
    net.save(tmp_path / "net", module)
    with torch.no_grad():
        next(module.parameters()).fill_(torch.nan)
    with pytest.raises(loom.CheckpointError, match="not finite; nothing was written"):
        net.save(tmp_path / "net", module)
    assert loom.load(tmp_path / "net").certificate["status"] == "proved"
    (tmp_path / "file").touch()
    with pytest.raises(loom.CheckpointError, match="Not a directory"):
        net.save(tmp_path / "file" / "net")


def test_numpy_numbers_and_names_survive(tmp_path):
    pde = loom.PDE(Eq(loom.dt(zoo.V), loom.laplacian(zoo.V)), boundary=loom.Dirichlet(0), name='my "net"')
    net = loom.compile(pde, grid=loom.Grid(0.5), scheme=loom.ForwardEuler(np.int64(2), np.float64(0.1)))
    assert loom.load(net.save(tmp_path)).net.name == "MyNet"


def test_records_are_alike_but_for_rounding():
    a = {"x": [1.0, "tau = 0.1234567891 * w", True, None], "n": 3}
    assert alike(a, {"x": [1.0 + 1e-9, "tau = 0.1234567890 * w", True, None], "n": 3})
    for other in (
        {"x": [1.0, "tau = 0.1235567891 * w", True, None], "n": 3},
        {"x": [1.0, "tau = 0.1234567891 * v", True, None], "n": 3},
        {"x": [1.0, "tau = 0.1234567891 * w", True], "n": 3},
        {"x": [1.1, "tau = 0.1234567891 * w", True, None], "n": 3},
        {"x": [1.0, "tau = 0.1234567891 * w", True, None], "n": 4},
    ):
        assert not alike(a, other)
    assert not alike("x1.5", "x1.4") and alike("f(1.5, 2)", "f(1.50, 2)") and not alike("f(2)", "f(3)")


def damaged(tmp_path, file, change):
    net = denoiser()
    folder = net.save(tmp_path / "net")
    path = folder / file
    raw = change(path.read_bytes())
    path.write_bytes(raw) if raw is not None else path.unlink()
    return folder


def flip(raw):
    return raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:]


DAMAGE = {
    "code added": ("net.py", lambda raw: raw + b"\nimport os\n"),
    "source missing": ("net.py", lambda raw: None),
    "source binary": ("net.py", lambda raw: b"\xff\xfe\x00"),
    "weights changed": ("weights.safetensors", flip),
    "weights pickled": ("weights.safetensors", lambda raw: b"\x80\x04cos\nsystem\n(S'true'\ntR."),
    "weights missing": ("weights.safetensors", lambda raw: None),
    "certificate forged": ("certificate.json", lambda raw: raw.replace(b'"tau_max"', b'"tau_min"')),
    "certificate not json": ("certificate.json", lambda raw: b"{"),
    "certificate deep": ("certificate.json", lambda raw: b"[" * 100_000),
    "certificate format": ("certificate.json", lambda raw: raw.replace(b'"format": 1', b'"format": 99')),
    "class renamed": ("certificate.json", lambda raw: raw.replace(b"PeronaMalik2d", b"Foo")),
    "spec changed": ("spec.toml", lambda raw: raw.replace(b"steps = 3", b"steps = 4")),
    "spec broken": ("spec.toml", lambda raw: b"[pde"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_folders_are_refused(name, tmp_path):
    with pytest.raises((loom.CheckpointError, loom.SpecError)):
        loom.load(damaged(tmp_path, *DAMAGE[name]))


def test_foreign_modules_are_not_reported_or_trained(tmp_path):
    net, other = denoiser(), denoiser(trainable=["tau"])
    for module in (other.module(), torch.nn.Linear(2, 2)):
        for use in (net.save, net.report):
            with pytest.raises(loom.CheckpointError, match="not a module of this network"):
                use(tmp_path / "r", module)
    for path in (None, tmp_path):
        with pytest.raises(loom.CheckpointError, match="path of a file"):
            net.report(path)
    for module in (net, torch.nn.Conv2d(1, 1, 3, padding=1)):
        with pytest.raises(loom.TrainingError, match="compiled network"):
            loom.fit(module, images(), out=tmp_path, **SMALL)
    s = loom.data("s", zoo.x, zoo.y, bounds=(0.05, 0.5))
    g = loom.diffusivity("perona-malik", loom.parameter("lam", 0.1, positive=True))
    right = loom.div(g(loom.norm2(loom.grad(zoo.U)) / s**2) * loom.grad(zoo.U))
    noisy = loom.compile(
        loom.PDE(Eq(loom.dt(zoo.U), right), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(2), trainable=["lam"]
    )
    with pytest.raises(loom.TrainingError, match="outside the bounds"):
        loom.fit(noisy.module(), images(), out=tmp_path, level="s", **{**SMALL, "sigma": (0.6, 0.7)})


def test_foreign_modules_are_not_saved(tmp_path):
    with pytest.raises(loom.CheckpointError, match="not a module of this network"):
        denoiser().save(tmp_path, torch.nn.Linear(2, 2))
    (tmp_path / "file").write_text("")
    with pytest.raises(loom.CheckpointError, match="folder"):
        denoiser().save(tmp_path / "file")


def test_certificates_survive_export_as_data():
    module = denoiser().module()
    exported = torch.export.export(module, (torch.rand(1, 1, 8, 8),))
    assert exported.module()(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    assert json.loads(json.dumps(module.certificate()))["status"] == "proved"


# --- data -----------------------------------------------------------------------------------------------------


def test_batches_are_a_function_of_seed_and_step():
    a, b = (Patches([as_image(i) for i in images()], 16, 4, 0.1, seed) for seed in (0, 1))
    assert torch.equal(a.draw(5)[0], a.draw(5)[0])
    assert not torch.equal(a.draw(5)[0], a.draw(6)[0])
    assert not torch.equal(a.draw(5)[0], b.draw(5)[0])
    noisy, clean, sigma = a.draw(3)
    assert sigma.shape == clean.shape
    assert noisy.shape == clean.shape == (4, 1, 16, 16)
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.1)


def test_bad_images_are_refused(tmp_path):
    for bad, words in [
        (np.full((8, 8), 2.0), "lie in"),
        (np.zeros((2, 3, 4, 5)), "shape"),
        (np.full((8, 8), np.nan), "lie in"),
        (np.zeros((8, 8), int), "type"),
    ]:
        with pytest.raises(loom.DataError, match=words):
            as_image(bad)
    with pytest.raises(loom.DataError, match="larger than an image"):
        Patches([as_image(i) for i in images()], 99, 4, 0.1, 0)
    with pytest.raises(loom.DataError, match="no folder"):
        load_images(str(tmp_path / "nowhere"))
    with pytest.raises(loom.DataError, match="empty"):
        load_images([])
    for bad, words in [
        (300 * torch.rand(1, 1, 8, 8), "lie in"),
        (torch.full((1, 1, 8, 8), torch.nan), "lie in"),
        (np.zeros((0, 3)), "no pixel"),
        (torch.zeros(2, 1, 8, 8), "shape"),
    ]:
        with pytest.raises(loom.DataError, match=words):
            load_images([bad])
    (image,) = load_images([torch.full((1, 1, 8, 8), 51, dtype=torch.uint8)])
    assert image.dtype == torch.float32 and float(image.max()) == pytest.approx(0.2)
    assert not load_images([torch.rand(1, 1, 8, 8, requires_grad=True)])[0].requires_grad
    with pytest.raises(loom.DataError, match="of type int"):
        load_images(5)
    (tmp_path / "sub.png").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(loom.DataError, match=r"b\.png: cannot be read"):
        load_images(tmp_path)


def test_folders_hold_out_images(tmp_path):
    from skimage.io import imsave

    for i in range(12):
        imsave(tmp_path / f"{i:02}.png", (np.full((8, 8), i * 10)).astype(np.uint8), check_contrast=False)
    assert (len(load_images(tmp_path)), len(load_images(tmp_path, held_out=True))) == (10, 2)


def test_scores_are_those_of_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio

    clean = as_image(images()[0])
    noisy = add_noise(clean, 0.1, 0)
    assert psnr(noisy, clean) == pytest.approx(
        peak_signal_noise_ratio(clean.numpy(), noisy.numpy(), data_range=1), abs=1e-4
    )
    result = score(lambda u: u, [clean], 0.1)
    assert result.psnr > 19 and 0 < result.ssim < 1


@pytest.mark.parametrize("turns", range(4))
def test_the_mean_over_turns_and_flips_commutes_with_them(turns):
    """Of a map that does not, on an image that is no square; an image that is symmetric already sees all eight."""
    stencil = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = self_ensemble(lambda u: torch.conv2d(u, stencil, padding=1).tanh())
    u = torch.randn(2, 1, 7, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for turned in (lambda v: torch.rot90(v, turns, (2, 3)), lambda v: torch.rot90(v, turns, (2, 3)).mT):
        torch.testing.assert_close(mean(turned(u)), turned(mean(u)), rtol=0, atol=1e-14)
    point = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    point[..., 1, 1] = 1
    around = stencil.tanh()  # what the map makes of a point, turned by half
    ring = [around[0, 0, i, j].item() for i, j in ((0, 0), (0, 2), (2, 0), (2, 2))]
    assert mean(point)[0, 0, 0, 0].item() == pytest.approx(sum(ring) / 4, rel=1e-14)


# --- training -------------------------------------------------------------------------------------------------


def test_training_improves_and_keeps_the_certificate(tmp_path):
    net = denoiser(steps=4)
    data = load_images("skimage")[:2]
    fitted = loom.fit(net.module(), data, steps=60, batch=8, patch=32, save_every=20, out=tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [20, 40, 60]
    assert lines[-1]["validation_psnr"] > lines[0]["validation_psnr"] > 20
    assert fitted.best_psnr == max(line["validation_psnr"] for line in lines)
    assert fitted.certificate["status"] == "proved"
    assert read_record(tmp_path / "last.safetensors")["certificate"] == fitted.certificate
    assert (tmp_path / "best.safetensors").exists()


def test_losses_are_what_their_names_say(tmp_path):
    """What is recorded after one step is the loss of the network that had none."""
    data = [as_image(image) for image in images()]
    noisy, clean, _ = Patches(data, 16, 4, 25 / 255, 0).draw(0)
    with torch.no_grad():
        error = (denoiser().module()(noisy) - clean).numpy()
    wanted = {
        "mse": np.mean(error**2),
        "mae": np.mean(np.abs(error)),
        "psnr": -np.mean([psnr(torch.tensor(e), torch.zeros(e.shape)) for e in error]),
    }
    for loss, value in wanted.items():
        options = {**SMALL, "steps": 1, "save_every": 1, "loss": loss}
        loom.fit(denoiser().module(), images(), out=tmp_path / loss, **options)
        assert json.loads((tmp_path / loss / "metrics.jsonl").read_text())["loss"] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("more", [{}, {"average": 0.8, "clip": 1e-3, "schedule": "constant", "patience": 9}], ids=str)
def test_a_stopped_run_resumes_bit_identically(more, tmp_path, monkeypatch):
    data, options = images(), {**SMALL, **more}
    whole = loom.fit(denoiser().module(), data, out=tmp_path / "a", **options)
    import pdeloom.runtime.fit as fit_module

    real, count = fit_module._Run._one_step, 0

    def interrupted(self):
        nonlocal count
        count += 1
        if count == 7:
            raise KeyboardInterrupt
        return real(self)

    with monkeypatch.context() as m:
        m.setattr(fit_module._Run, "_one_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loom.fit(denoiser().module(), data, out=tmp_path / "b", **options)
    assert read_record(tmp_path / "b" / "last.safetensors")["step"] == 4
    resumed = loom.fit(denoiser().module(), data, out=tmp_path / "b", **options)
    assert same(weights(whole.module), weights(resumed.module))
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() == (tmp_path / "b" / "metrics.jsonl").read_bytes()


def data_term():
    """u_t = div(g ∇u) + β(f − u), f the noisy image."""
    f, beta = loom.data("f", zoo.x, zoo.y), loom.parameter("beta", 0.1, positive=True)
    g = loom.diffusivity("perona-malik", loom.parameter("lam", 0.1, positive=True))
    right = loom.div(g(loom.norm2(loom.grad(zoo.U))) * loom.grad(zoo.U)) + beta * (f - zoo.U)
    pde = loom.PDE(Eq(loom.dt(zoo.U), right), boundary=loom.NoFlux())
    return loom.compile(pde, scheme=loom.ForwardEuler(3), trainable=["lam", "beta", "tau"])


def test_the_noisy_image_can_be_observed(tmp_path):
    module = data_term().module()
    fitted = loom.fit(module, images(), out=tmp_path, observed="f", **{**SMALL, "steps": 30})
    first, *_, last = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert last["validation_psnr"] > first["validation_psnr"]
    assert fitted.certificate["status"] == "proved"
    with pytest.raises(loom.TrainingError, match="observed='f'"):
        loom.fit(data_term().module(), images(), out=tmp_path / "b", **SMALL)
    with pytest.raises(loom.TrainingError, match="no data field"):
        loom.fit(data_term().module(), images(), out=tmp_path / "b", observed="g", **SMALL)


def test_networks_that_know_the_noise_level(tmp_path):
    """g(|∇u|²/σ²): σ is data, a number for every pixel, and what is proved holds for all of its values."""
    sigma = loom.data("sigma", zoo.x, zoo.y, bounds=(1e-3, 1.0))
    g = loom.learned_flux("g", terms=3, start=loom.diffusivity("perona-malik", 2.0))
    pde = loom.PDE(
        Eq(loom.dt(zoo.U), loom.div(g(loom.norm2(loom.grad(zoo.U)) / sigma**2) * loom.grad(zoo.U))),
        boundary=loom.NoFlux(),
    )
    spaces = {"differences": loom.FiniteDifference(), "filters": loom.FilterBank(4, 3, symmetric=True, own_fluxes=True)}
    for name, space in spaces.items():
        net = loom.compile(pde, space=space, scheme=loom.ForwardEuler(3), trainable=["flux", "tau"])
        assert net.stability["norm decrease"].status == net.stability["energy decrease"].status == "proved"
        u, s = torch.rand(2, 2, 1, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        s = 0.9 * s + 0.01
        expected = net.reference(u.numpy(), sigma=s.numpy())
        assert abs(net.module(dtype=torch.float64)(u, sigma=s).detach().numpy() - expected).max() < 1e-14
        options = {**SMALL, "steps": 30, "sigma": (5 / 255, 50 / 255)}
        fitted = loom.fit(net.module(), images(), out=tmp_path / name, level="sigma", **options)
        noisy, clean, _ = Patches(load_images(images()), 16, 32, options["sigma"], 500_000).draw(0)
        assert fitted.best_psnr > psnr(noisy.clamp(0, 1), clean) + 1
        assert fitted.certificate["status"] == "proved"
        assert "Φ(s)" in net.report(tmp_path / "report.html").read_text(encoding="utf-8")
    with pytest.raises(loom.TrainingError, match="outside the bounds"):
        loom.fit(net.module(), images(), out=tmp_path / "x", level="sigma", sigma=(1e-4, 0.1), **SMALL)
    with pytest.raises(loom.TrainingError, match="level"):
        loom.fit(net.module(), images(), out=tmp_path / "x", level="f", **SMALL)
    with pytest.raises(loom.TrainingError, match="of its own"):
        loom.fit(net.module(), images(), out=tmp_path / "x", level="sigma", observed="sigma", **SMALL)
    noisy, clean, level = Patches(load_images(images()), 16, 64, (0.1, 0.4), 0).draw(0)
    assert level.min() >= 0.1 and level.max() <= 0.4 and level.std() > 0.05
    ratio = (noisy - clean).flatten(1).std(dim=1) / level.flatten(1)[:, 0]
    assert (ratio - 1).abs().max() < 0.3


def test_data_inside_a_diffusivity_need_positive_bounds():
    lam = loom.parameter("lam", 2.0, positive=True)
    g = loom.diffusivity("perona-malik", lam)
    for bounds in (None, (0.0, 1.0)):
        s = loom.data("s", zoo.x, zoo.y, bounds=bounds)
        right = loom.div(g(loom.norm2(loom.grad(zoo.U)) / s**2) * loom.grad(zoo.U))
        with pytest.raises(loom.UnstableSchemeError, match="positive bounds"):
            loom.compile(loom.PDE(Eq(loom.dt(zoo.U), right), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(2))
    s = loom.data("s", zoo.x, zoo.y, bounds=(0.1, 1.0))
    right = loom.div(s / (s + loom.norm2(loom.grad(zoo.U)) / s) / s * loom.grad(zoo.U))  # sup g = 1/s
    with pytest.raises(loom.UnstableSchemeError, match="no upper bound"):
        loom.compile(loom.PDE(Eq(loom.dt(zoo.U), right), boundary=loom.NoFlux()), scheme=loom.ForwardEuler(2))


def test_averages_are_what_is_returned_and_saved(tmp_path):
    fitted = loom.fit(denoiser().module(), images(), out=tmp_path / "a", average=0.9, **SMALL)
    plain = loom.fit(denoiser().module(), images(), out=tmp_path / "b", **SMALL)
    averaged, last = weights(fitted.module)["log_lam"], weights(plain.module)["log_lam"]
    start = weights(denoiser().module())["log_lam"]
    assert ((averaged - start).abs() < (last - start).abs()).all()  # averages lag behind
    slow = loom.fit(denoiser().module(), images(), out=tmp_path / "c", average=0.9999, **SMALL)
    averaged = weights(slow.module)["log_lam"]
    assert ((averaged - start).abs() > (last - start).abs() / 2).all()  # but not as far as to where a short run starts
    module = denoiser().module()
    read_checkpoint(tmp_path / "a" / "last.safetensors", module)
    assert same(weights(module), weights(fitted.module))


@pytest.mark.parametrize("scheme", [loom.ForwardEuler(3), loom.FED(cycles=3, length=2)], ids=["steps", "cycles"])
def test_greedy_training_goes_layer_by_layer(scheme, tmp_path):
    lam = loom.parameter("lam", 0.1, positive=True)
    g = loom.diffusivity("perona-malik", lam)
    pde = loom.PDE(
        Eq(loom.dt(zoo.U), loom.div(g(loom.norm2(loom.grad(zoo.U))) * loom.grad(zoo.U))), boundary=loom.NoFlux()
    )
    net = loom.compile(pde, scheme=scheme, trainable=[lam])
    start = net.module().log_lam.detach().clone()
    for steps, moved in ((4, 1), (8, 2), (12, 3)):
        module = net.module()
        loom.fit(module, images(), out=tmp_path / str(steps), greedy=4, **{**SMALL, "steps": steps})
        assert ((module.log_lam.detach() != start).tolist()) == [i < moved for i in range(3)]
        assert module.steps == type(module).steps and len(module.certificate()["tau"]) == scheme.layers


def test_clipped_gradients_train_otherwise(tmp_path):
    plain, clipped, loose = (
        weights(loom.fit(denoiser().module(), images(), out=tmp_path / str(clip), clip=clip, **SMALL).module)
        for clip in (None, 1e-3, 1e9)
    )
    assert same(plain, loose) and not same(plain, clipped)


def test_a_run_that_gets_no_better_stops(tmp_path):
    module = denoiser().module()
    stalled = loom.fit(
        module, images(), out=tmp_path, patience=2, rate=1e-9, **{**SMALL, "steps": 4000, "save_every": 1}
    )
    assert stalled.steps < 4000
    record = read_record(tmp_path / "last.safetensors")
    assert record["worse"] == 2
    again = loom.fit(
        denoiser().module(), images(), out=tmp_path, patience=2, rate=1e-9, **{**SMALL, "steps": 4000, "save_every": 1}
    )
    assert again.steps == stalled.steps


KILLED = """
import sys; sys.path.insert(0, {tests!r})
import torch, numpy as np; torch.set_num_threads(1)
import test_runtime
test_runtime.forty_steps({out!r})
"""


def forty_steps(out):
    loom.fit(denoiser().module(), images(), out=out, steps=40, batch=4, patch=16, save_every=2, progress=False)


def test_sigkill_at_any_moment_resumes_bit_identically(tmp_path):
    """A child process is killed while it trains, at different moments; another process finishes the run."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    whole = tmp_path / "whole"
    forty_steps(whole)
    for delay in (0.0, 0.1):
        killed = tmp_path / f"killed {delay}"
        code = KILLED.format(tests=str(ROOT / "tests"), out=str(killed))
        child = subprocess.Popen([sys.executable, "-c", code], env=env)
        while not (killed / "last.safetensors").exists() and child.poll() is None:
            time.sleep(0.001)
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        (killed / "metrics.jsonl").open("a").write('{"step": 39, "lo')  # a torn line, as a crash may leave one
        forty_steps(killed)
        for file in ("metrics.jsonl", "last.safetensors", "best.safetensors"):
            assert (killed / file).read_bytes() == (whole / file).read_bytes(), file


def test_another_run_in_the_same_folder_is_refused(tmp_path):
    loom.fit(denoiser().module(), images(), out=tmp_path, **SMALL)
    with pytest.raises(loom.TrainingError, match="rate"):
        loom.fit(denoiser().module(), images(), out=tmp_path, rate=0.001, **SMALL)
    with pytest.raises(loom.TrainingError, match="network"):
        loom.fit(denoiser(trainable=["tau"]).module(), images(), out=tmp_path, **SMALL)
    with pytest.raises(loom.TrainingError, match="other data"):
        loom.fit(denoiser().module(), images()[:2], out=tmp_path, **SMALL)
    walls = zoo.network("perona-malik 2d", "walls", tau="auto", steps=3, h=1.0, trainable=["lam", "tau"])
    with pytest.raises(loom.TrainingError, match="another network"):  # of the same weights
        loom.fit(walls.module(), images(), out=tmp_path, **SMALL)
    loom.fit(denoiser().module(), images(), out=tmp_path / "clipped", clip=0.01, **SMALL)
    with pytest.raises(loom.TrainingError, match=r"clip = 0\.01, not None"):
        loom.fit(denoiser().module(), images(), out=tmp_path / "clipped", **SMALL)


def test_double_precision_is_resumed_and_lost_metrics_are_no_obstacle(tmp_path, monkeypatch):
    options = {**SMALL, "precision": "64-true", "average": 0.9}
    whole = loom.fit(denoiser().module(), images(), out=tmp_path / "whole", **options)
    draw = Patches.draw
    monkeypatch.setattr(Patches, "draw", lambda self, step: draw(self, step) if step < 6 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loom.fit(denoiser().module(), images(), out=tmp_path / "parts", **options)
    monkeypatch.setattr(Patches, "draw", draw)
    (tmp_path / "parts" / "metrics.jsonl").write_text("5\n", encoding="utf-8")
    resumed = loom.fit(denoiser().module(), images(), out=tmp_path / "parts", **options)
    assert same(weights(resumed.module), weights(whole.module))
    assert next(resumed.module.parameters()).dtype == torch.float64


def test_damaged_checkpoints_are_refused(tmp_path):
    loom.fit(denoiser().module(), images(), out=tmp_path, **SMALL)
    with pytest.raises(loom.CheckpointError, match="holds a run of fit"):
        loom.load(tmp_path)
    (tmp_path / "last.safetensors").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(loom.CheckpointError, match="damaged"):
        loom.fit(denoiser().module(), images(), out=tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate": -1}, "rate"),
        ({"batch": 0}, "batch"),
        ({"steps": "ten"}, "steps"),
        ({"accelerator": "tpux"}, "tpux"),
        ({"precision": "3"}, "precision"),
        ({"schedule": "cosin"}, "cosine"),
        ({"loss": "mes"}, "mse"),
        ({"average": 1.5}, "average"),
        ({"clip": 0}, "clip"),
        ({"patience": -3}, "patience"),
        ({"sigma": (0.2, 0.1)}, "sigma"),
        ({"sigma": ()}, "sigma"),
        ({"sigma": -0.1}, "sigma"),
        ({"patch": 17.5}, "whole number"),
        ({"rate": float("nan")}, "rate"),
        ({"seed": -1}, "from 0 on"),
        ({"out": None}, "path of a folder"),
        ({"out": "/dev/null"}, "path of a folder"),
        ({"sigma": 25}, "25/255"),
        ({"devices": 4096}, "cores"),
        ({"seed": 2**70}, "2³²"),
    ],
)
def test_bad_training_options(options, words, tmp_path):
    with pytest.raises(loom.TrainingError, match=words):
        loom.fit(denoiser().module(), images(), **{"out": tmp_path, **SMALL, **options})


def test_fit_is_for_images(tmp_path):
    v = loom.field("v", loom.coordinates("x"))
    lam = loom.parameter("lam", 0.1, positive=True)
    net = loom.compile(
        loom.PDE(Eq(loom.dt(v), lam * loom.laplacian(v)), boundary=loom.NoFlux()),
        scheme=loom.ForwardEuler(2), trainable=[lam],
    )  # fmt: skip
    with pytest.raises(loom.TrainingError, match="1-D"):
        loom.fit(net.module(), images(), out=tmp_path, **SMALL)


def test_untrainable_networks_are_refused(tmp_path):
    with pytest.raises(loom.TrainingError, match="trainable="):
        loom.fit(denoiser(trainable=[]).module(), images(), out=tmp_path, **SMALL)
    with pytest.raises(loom.TrainingError, match="data fields"):
        loom.fit(zoo.network("coefficient 2d", trainable=["tau"], tau="auto").module(), images(), out=tmp_path, **SMALL)
    steady = loom.PDE(Eq(zoo.U - loom.laplacian(zoo.U), 1), boundary=loom.NoFlux())
    net = loom.compile(steady, scheme=loom.Multigrid(1), trainable=["smoother"])
    with pytest.raises(loom.TrainingError, match="steady"):
        loom.fit(net.module(), images(), out=tmp_path, **SMALL)


# --- networks that come with the package ----------------------------------------------------------------------


def test_pretrained_networks_denoise_and_keep_their_proof():
    """Better than TV with its best weight on these images, and norms decrease, as the certificate says."""
    saved = loom.pretrained("denoiser-norm-stable-25")
    assert saved.certificate["status"] == "proved" and saved.certificate["notion"] == "norm decrease"
    module = saved.module(dtype=torch.float64)
    (camera,) = [image.double()[..., 100:228, 100:228] for image in load_images("skimage", held_out=True)[:1]]
    noisy = add_noise(camera, 25 / 255, 0)
    with torch.no_grad():
        out = module(noisy, f=noisy)
    tv = max(
        psnr(torch.from_numpy(denoise_tv_chambolle(noisy[0, 0].numpy(), weight=w))[None, None], camera)
        for w in (0.06, 0.08, 0.1, 0.12, 0.14)
    )
    assert psnr(out, camera) > tv + 0.5
    u, f = torch.randn(2, 8, 1, 20, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    size = torch.maximum(u.flatten(1).norm(dim=1), f.flatten(1).norm(dim=1))
    with torch.no_grad():
        assert (module(u, f=f).flatten(1).norm(dim=1) <= size * (1 + 1e-12)).all()
    with pytest.raises(loom.CheckpointError, match="did you mean"):
        loom.pretrained("denoiser-norm-stabel-25")


def test_every_pretrained_network_is_a_row_of_the_table():
    """Its weights, its certificate, and a gain over TV on a crop; PSNR on BSD68 is what `pdeloom evaluate` prints."""
    results = json.loads(zoo.example("denoising").RESULTS.read_text(encoding="utf-8"))
    rows = {f"denoiser-{r['arm']}-{r['sigma']:g}": r for r in results if r["seed"] is None and not r["ensemble"]}
    (camera,) = [image[..., 100:180, 100:180] for image in load_images("skimage", held_out=True)[:1]]
    for folder in (ROOT / "runtime" / "pretrained").iterdir():
        row, module = rows[folder.name], loom.pretrained(folder.name).module()
        noisy = add_noise(camera, row["sigma"] / 255, 0)
        assert sum(p.numel() for p in module.parameters()) == row["parameters"]
        assert module.certificate()["status"] == row["certificate"]
        with torch.no_grad():
            gain = psnr(module(noisy, f=noisy).clamp(0, 1), camera) - psnr(noisy, camera)
        assert gain > {15: 4.5, 25: 7, 50: 9}[row["sigma"]], folder.name


def test_the_denoising_example_keeps_its_results(tmp_path, monkeypatch):
    example = zoo.example("denoising")
    kept = [example.Row(**row) for row in json.loads(example.RESULTS.read_text(encoding="utf-8"))]
    assert example.page(kept) == (ROOT / "docs" / "denoising.md").read_text(encoding="utf-8")
    network = example.network
    small = {"channels": 4, "size": 3, "layers": 1, "terms": 2}
    monkeypatch.setattr(example, "network", lambda arm: network(arm, **small))
    monkeypatch.setattr(example, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(example, "PRETRAINED", tmp_path)
    for name, image in enumerate(images()):
        imsave(tmp_path / f"{name}.png", (255 * image).astype(np.uint8), check_contrast=False)
    rows = []
    for arm in ("nonexpansive", "energy", "free", "energy"):
        folder = str(tmp_path)
        row, module = example.run(arm, folder, folder, 2, 25.0, tmp_path / arm, patch=16, progress=False)
        example.ship(arm, 25.0, module)
        rows = example.keep(row)
    assert [r.arm for r in rows] == ["nonexpansive", "energy", "free"] and rows[0].images == 3
    assert [r.certificate for r in rows] == ["proved", "proved", "unknown"] and {r.steps for r in rows} == {2}
    assert "| energy | 25 |" in example.page(rows)
    row, _ = example.run("energy", folder, folder, 1, 25.0, tmp_path / "again", patch=16, again=True, progress=False)
    assert row.start == "denoiser-energy-25"
    mean = example.shipped("energy", folder, folder, 25.0)
    assert (mean.multiplications, mean.certificate, mean.steps) == (8 * row.multiplications, "unknown", 2)
    assert example.shipped("nonexpansive", folder, folder, 25.0).certificate == "proved"
    assert 0 < abs(mean.psnr - rows[1].psnr) < 1 and len(example.keep(mean)) == 4
    alone = example.page(example.results())
    assert "| energy, mean over turns and flips | 25 |" in alone
    with pytest.raises(SystemExit, match="no row of weights trained on bsd400"):
        example.shipped("energy", "bsd400", folder, 25.0)
    for arm, seed, value in (("free", 1, 21.0), ("energy", 0, 20.0), ("energy", 1, 20.5)):
        rows = example.keep(dataclasses.replace(row, arm=arm, seed=seed, psnr=value))
    several = example.page(rows)
    assert several.startswith(alone.rstrip()) and len(rows) == 7
    assert "| energy | 25 | 2 | 1 | 20.250 (20.000 to 20.500) | +0.000 (+0.000 to +0.000) |" in several
    assert "| free | 25 | 1 | 1 | 21.000 (21.000 to 21.000) | +0.500 (+0.500 to +0.500) |" in several
    assert (tmp_path / "denoiser-energy-25" / "spec.toml").exists()


def test_colour_images_train_a_system_from_hdf5(tmp_path, capsys):

    x, y = loom.coordinates("x y")
    fields, data = ([make(f"{p}{c}", x, y) for c in "rgb"] for make, p in ((loom.field, "u"), (loom.data, "f")))
    g = loom.diffusivity("perona-malik", 0.1)(sum(loom.norm2(loom.grad(u)) for u in fields))
    beta = loom.parameter("beta", 0.1, positive=True)
    equations = [Eq(loom.dt(u), loom.div(g * loom.grad(u)) + beta * (f - u)) for u, f in zip(fields, data, strict=True)]
    net = loom.compile(
        loom.PDE(equations, boundary=loom.NoFlux()), scheme=loom.ForwardEuler(2), trainable=[beta, "tau"]
    )
    stack = np.random.default_rng(0).integers(0, 255, (4, 20, 24, 3), dtype=np.uint8)
    with h5py.File(tmp_path / "colours.h5", "w") as file:
        file["group/stack"], file["single"] = stack, stack[0] / 255.0
    assert [tuple(i.shape) for i in load_images(tmp_path / "colours.h5", None, 3)] == [(1, 3, 20, 24)] * 5
    options = {"steps": 4, "batch": 2, "patch": 16, "progress": False, "out": tmp_path / "run"}
    fitted = loom.fit(net.module(), tmp_path / "colours.h5", observed=["fr", "fg", "fb"], **options)
    assert fitted.certificate["status"] == "proved" and fitted.steps == 4
    saved = net.save(tmp_path / "net", fitted.module, train={"sigma": 0.1, "observed": ["fr", "fg", "fb"]})
    cli.evaluate(str(saved), str(tmp_path / "colours.h5"))
    assert "5 images" in capsys.readouterr().out
    for wrong, words in ((["fr", "fg"], "3 fields"), (["fr", "fg", "fg"], "'fg'"), ("fr", "data fields")):
        with pytest.raises(loom.TrainingError, match=words):
            loom.fit(net.module(), "skimage", observed=wrong, **options)
    with pytest.raises(loom.DataError, match=r"give an image \(H, W, 3\)"):
        loom.fit(net.module(), images(), observed=["fr", "fg", "fb"], **options)
    with h5py.File(tmp_path / "grey.h5", "w") as file:
        file["stack"] = stack[..., 0]
    assert len(load_images(str(tmp_path / "grey.h5"))) == 3
    (tmp_path / "broken.h5").write_text("no", encoding="utf-8")
    with pytest.raises(loom.DataError, match="no HDF5 file"):
        load_images(tmp_path / "broken.h5")


# --- the report -----------------------------------------------------------------------------------------------


def test_the_report_is_one_page_with_everything(tmp_path):
    net = denoiser()
    page = net.report(tmp_path / "r.html", net.module()).read_text(encoding="utf-8")
    for word in ("∂x", "norm decrease", "refuted", "<svg", "K_x", "class PeronaMalik2d", "no flux"):
        assert word in page
    outside = re.findall(r'(?:src|href)="([^#"][^"]*)"', page)
    assert not outside, "self-contained"
    for name in net.graph:
        assert f">{name}</text>" in page


def test_the_report_shows_fluxes_and_filters(tmp_path):
    saved = loom.pretrained("denoiser-norm-stable-25")
    module = saved.module()
    page = saved.net.report(tmp_path / "r.html", module).read_text(encoding="utf-8")
    for word in ("<h2>Fluxes</h2>", "Filters K, layer 0", "Filters K, layer 7", "<!-- layer 7 -->", "<!-- initial -->"):
        assert word in page, word
    assert page.count("<svg") == 2 + 1 + 1 + 1  # filters twice, the flux, the graph, the energy
    again = saved.net.report(tmp_path / "again.html", module).read_text(encoding="utf-8")
    assert again == page, "the same report twice is the same file"
    plain = denoiser().report(tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<h2>Fluxes</h2>" in plain and "Filters" not in plain
