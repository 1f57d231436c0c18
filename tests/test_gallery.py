"""The gallery: every specification compiles and runs, is short, and is on the page."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo

ROOT = Path(__file__).parents[1]
gallery = zoo.example("gallery/gallery")
gallery.network = functools.cache(gallery.network)
pytestmark = pytest.mark.xdist_group("gallery")  # one process compiles each network once
NAMES = sorted(p.stem for p in (ROOT / "examples" / "gallery").glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_specification_is_short_and_its_network_the_reference(name):
    text = (ROOT / "examples" / "gallery" / f"{name}.toml").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 20
    assert text.rstrip() in (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    net, (u, data) = gallery.network(name), gallery.STARTS[name]()
    cut = {key: value[:15, :15] for key, value in data.items()}
    module = net.module(torch.float64)
    type(module).steps = min(getattr(module, "steps", 1), 3)
    part = u[(slice(None), *[slice(40, 55)] * (u.ndim - 1))]
    state = torch.from_numpy(np.ascontiguousarray(part)).double()[None]
    out = module(state, **{key: torch.from_numpy(value).double()[None, None] for key, value in cut.items()})
    assert out.shape == state.shape and bool(out.isfinite().all())


def test_the_page_is_what_the_script_writes():
    assert set(NAMES) == set(gallery.STARTS) and len(NAMES) >= 12
    assert gallery.page() == (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert all((ROOT / "docs" / "images" / "gallery" / f"{name}.png").exists() for name in NAMES)


def test_a_reaction_is_found_in_trajectories(monkeypatch, capsys):
    closure = zoo.example("closure")
    monkeypatch.setattr(closure, "SIZE", 10)
    monkeypatch.setattr(closure, "TRAJECTORIES", 4)
    found, residual = closure.find_reaction(0, 0.0)
    exact = closure.reaction(closure.GRID)
    assert np.linalg.norm(found - exact) < 0.02 * np.linalg.norm(exact) and residual < 1e-3
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "closure.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    assert "the growth that it brings is open" in capsys.readouterr().out


def test_pages_are_what_their_results_say():
    half, holds = zoo.example("half_the_weights"), zoo.example("does_it_hold")
    runs = half.load()
    assert len(runs) == len(half.ARMS) * len(half.SIZES)
    assert half.page(runs) == (ROOT / "docs" / "half_the_weights.md").read_text(encoding="utf-8")
    assert holds.page() == (ROOT / "docs" / "does_it_hold.md").read_text(encoding="utf-8")
    for run in runs:
        assert run.certificate == {"norm-stable": "proved", "nonexpansive": "proved"}.get(run.arm, run.certificate)


@pytest.mark.parametrize("arm", ["relu", "untied", "symmetric", "norm-stable", "fsi", "rnn"])
def test_every_arm_in_one_dimension_trains(arm, monkeypatch):
    half = zoo.example("half_the_weights")
    for name, value in {"SEEDS": 2, "RATES": (0.01,), "TESTS": 4, "BATCH": 2}.items():
        monkeypatch.setattr(half, name, value)
    run = half.train(arm, 2, 4, steps=8)
    assert len(run.psnr) == 8 and len(run.seeds) == 2 and min(run.psnr) > 10
