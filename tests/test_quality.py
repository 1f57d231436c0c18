"""The house rules: lint, types, layers, the README, and the wheel in a fresh environment."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import pdeloom as loom

ROOT = Path(__file__).parents[1]


def run(*command, cwd=ROOT, **options):
    return subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    "command", [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)], ids=" ".join
)
def test_lint_and_types(command):
    done = run(sys.executable, "-m", *command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_layers():
    done = run(Path(sys.executable).parent / "lint-imports")
    assert done.returncode == 0, done.stdout


def test_the_public_face_is_complete():
    for name in loom.__all__:
        assert name == "t" or getattr(loom, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        loom.nonsense  # noqa: B018


def test_readme_blocks_run(tmp_path):
    """Every Python block of the README, in order, in one namespace, gives the output that stands below it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", text, flags=re.DOTALL)
    assert blocks
    code = "\n".join(f"{block}\nprint('---')" for block, _ in blocks)
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for (_, expected), printed in zip(blocks, done.stdout.split("---\n"), strict=False):
        if expected:
            assert printed.strip() == expected.strip()


def test_the_demo_runs_and_leaves_everything(tmp_path):
    done = run(sys.executable, "-m", "pdeloom", "demo", "--out", tmp_path / "demo", "--steps", "20")
    assert done.returncode == 0, done.stderr[-2000:]
    names = (
        "net.py",
        "report.html",
        "demo.png",
        "metrics.jsonl",
        "last.safetensors",
        "weights.safetensors",
        "certificate.json",
        "table.json",
    )
    for name in names:
        assert (tmp_path / "demo" / name).stat().st_size > 0, name
    assert "TV-Chambolle" in done.stdout and "proved" in done.stdout
    assert loom.load(tmp_path / "demo").net.name == "PeronaMalik"


def test_the_wheel_works_elsewhere(tmp_path):
    """Build wheel and sdist, install the wheel in a fresh environment, run a spec far from the checkout.

    The fresh environment borrows the dependencies of this one through a path file; the package is its own.
    """
    done = run(sys.executable, "-m", "build", "--outdir", tmp_path, env={**os.environ, "PIP_CONSTRAINT": ""})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = tmp_path.glob("*.whl")
    home = tmp_path / "venv"
    venv.create(home)
    python = home / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
    pip = [sys.executable, "-m", "pip", "--python", python]
    assert run(*pip, "install", "--no-deps", "--no-index", wheel).returncode == 0
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    spec = tmp_path / "spec.toml"
    spec.write_bytes((ROOT / "examples" / "perona_malik.toml").read_bytes())
    done = run(home / "bin" / "pdeloom", "compile", spec, "-o", "net.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "class PeronaMalik" in (tmp_path / "net.py").read_text()
    where = run(python, "-c", "import pdeloom.templates as t; print(t.__file__)", cwd=tmp_path).stdout
    assert where.startswith(str(site))
    code = "import pdeloom as loom; print(loom.pretrained('denoiser-norm-stable-25').certificate['status'])"
    assert run(python, "-c", code, cwd=tmp_path).stdout.strip() == "proved"
    done = run(home / "bin" / "pdeloom", "inspect", spec, "--html", "r.html", cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / "r.html").exists(), done.stderr
