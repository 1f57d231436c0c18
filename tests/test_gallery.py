"""The gallery: every specification compiles and runs, is short, and is on the page."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo

ROOT = Path(__file__).parents[1]
gallery = zoo.example("gallery/gallery")
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
    state = torch.from_numpy(np.ascontiguousarray(u[:, 40:55, 40:55])).double()[None]
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
