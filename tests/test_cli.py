"""The command line: in a shell of its own where that matters, else in this process, which is faster."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SPEC = """
[pde]
coordinates = ["x", "y"]
fields = ["u"]
equation = "dt(u) = div(1/(1 + norm2(grad(u))/lam**2) * grad(u))"
boundary = "no-flux"
[parameters]
lam = { value = 0.1, positive = true }
[grid]
spacing = 1.0
[space]
method = "finite-difference"
order = 2
[scheme]
name = "forward-euler"
steps = 3
[compile]
trainable = ["lam", "tau"]
[train]
data = "skimage"
steps = 6
batch = 2
patch = 16
save_every = 3
out = "run"
"""


@pytest.fixture
def process(tmp_path):
    def run(*arguments, spec=SPEC):
        (tmp_path / "spec.toml").write_text(spec, encoding="utf-8")
        return subprocess.run(
            [sys.executable, "-m", "pdeloom", *arguments], cwd=tmp_path, capture_output=True, text=True
        )

    run.folder = tmp_path
    return run


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    from pdeloom.runtime.cli import main

    def run(*arguments, spec=SPEC):
        (tmp_path / "spec.toml").write_text(spec, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["pdeloom", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err)

    run.folder = tmp_path
    return run


def test_the_whole_way(shell, process):
    done = process("compile", "spec.toml", "-o", "net.py")
    assert done.returncode == 0, done.stderr
    assert "class PeronaMalik2d" in (shell.folder / "net.py").read_text()
    assert "norm decrease" in shell("check", "spec.toml").stdout
    assert "adjoint stencil" in shell("inspect", "spec.toml").stdout
    assert shell("inspect", "spec.toml", "--html", "r.html").returncode == 0
    assert (shell.folder / "r.html").exists()
    trained = shell("train", "spec.toml")
    assert trained.returncode == 0, trained.stderr
    assert "proved" in trained.stdout
    again = shell("train", "spec.toml")
    assert again.returncode == 0, again.stderr
    refused = shell("train", "spec.toml", "--no-resume")
    assert refused.returncode == 2 and "holds a run" in refused.stderr
    scored = shell("evaluate", "run")
    assert scored.returncode == 0 and "PSNR" in scored.stdout, scored.stderr
    assert "PSNR" in shell("evaluate", "run", "--self-ensemble").stdout


def test_two_processes_train_as_one(shell, process):
    """Each draws its half of the same batch; gradients are averaged; one of them writes."""
    shell("train", "spec.toml")
    alone = (shell.folder / "run" / "metrics.jsonl").read_text().splitlines()
    done = process("train", "spec.toml", spec=SPEC.replace('out = "run"', 'out = "pair"\ndevices = 2'))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("proved") == 1
    together = (shell.folder / "pair" / "metrics.jsonl").read_text().splitlines()
    assert len(alone) == len(together) == 2
    values = [[json.loads(line)["validation_psnr"] for line in lines] for lines in (alone, together)]
    assert values[0] == pytest.approx(values[1], abs=1e-3)


def test_check_exits_1_on_refuted(shell):
    done = shell("check", "spec.toml", spec=SPEC.replace("steps = 3\n", "steps = 3\ntau = 0.3\n", 1))
    assert done.returncode == 1, done.stderr
    assert "refuted" in done.stdout


def test_schemes_are_listed(shell):
    listed = shell("schemes").stdout
    for name, network in (("forward-euler", "ResNet"), ("aos", "RNN"), ("fsi", "skips")):
        assert name in listed and network in listed


IMPLICIT = SPEC.replace('name = "forward-euler"\nsteps = 3', 'name = "backward-euler"\nsteps = 2\ntau = 1.0\n@')


@pytest.mark.parametrize("solver", ['solver = "newton-krylov"', "solver = { max_iterations = 40, tol = 1e-8 }", ""])
def test_a_spec_may_choose_the_solver(shell, solver):
    done = shell("compile", "spec.toml", "-o", "net.py", spec=IMPLICIT.replace("@", solver))
    assert done.returncode == 0, done.stderr
    assert "Newton's method" in (shell.folder / "net.py").read_text(encoding="utf-8")
    assert "every τ" in shell("check", "spec.toml", spec=IMPLICIT.replace("@", solver)).stdout
    assert shell("inspect", "spec.toml", "--html", "r.html", spec=IMPLICIT.replace("@", solver)).returncode == 0
    assert "solve" in (shell.folder / "r.html").read_text(encoding="utf-8")


def test_a_spec_may_solve_by_multigrid(shell):
    solver = 'solver = { name = "multigrid", cycles = 3, post = 1 }'
    spec = IMPLICIT.replace("backward-euler", "semi-implicit").replace("@", solver)
    done = shell("compile", "spec.toml", "-o", "net.py", spec=spec)
    assert done.returncode == 0, done.stderr
    assert "3 multigrid cycles" in (shell.folder / "net.py").read_text(encoding="utf-8")


WRONG = {
    "unknown solver": (IMPLICIT.replace("@", 'solver = "newton"'), "did you mean 'newton-krylov'"),
    "unknown solver key": (IMPLICIT.replace("@", "solver = { tolerance = 1e-3 }"), "tol"),
    "solver too weak": (IMPLICIT.replace("@", 'solver = "fixed-point"'), "tau < 0.125"),
    "unknown key": (SPEC.replace("boundary =", "bondary ="), "boundary"),
    "unknown table": (SPEC + "[sheme]\nname = 1\n", "sheme"),
    "no scheme": (SPEC.replace("[scheme]", "[space2]"), "scheme"),
    "joint": (
        SPEC.replace('finite-difference"\norder = 2', 'filter-bank"\nchannels = 4\njoint = "lernt"'),
        'or "learned"',
    ),
    "unknown scheme": (SPEC.replace("forward-euler", "forward-eular"), "did you mean 'forward-euler'"),
    "unknown scheme key": (SPEC.replace("steps = 3", "stepz = 3"), "steps"),
    "text for a number": (SPEC.replace("spacing = 1.0", 'spacing = "one"'), "spacing"),
    "truth for a number": (SPEC.replace("spacing = 1.0", "spacing = true"), "spacing"),
    "hostile equation": (SPEC.replace("dt(u) = div", "__import__('os') = div"), "[pde] equation"),
    "bad boundary": (SPEC.replace('"no-flux"', '"no-fluks"'), "[pde] boundary"),
    "over the bound": (SPEC.replace("steps = 3\n", "steps = 3\ntau = 9.0\n", 1), "exceeds"),
    "unused parameter": (SPEC.replace("[grid]", "mu = 1.0\n[grid]"), "'mu'"),
    "unknown trainable": (SPEC.replace('"lam", "tau"]', '"lamda"]'), "lamda"),
    "transport": (SPEC.replace("dt(u) = div", "dt(u) = d(u, x)*lam + div"), "periodic axis"),
    "not toml": ("[pde", "TOML"),
    "deep": (SPEC.replace("dt(u) = div", "dt(u) = " + "(" * 3000 + "div"), "100 levels"),
    "no train table": (SPEC.split("[train]")[0], "[train]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_specs_get_one_line_and_exit_2(name, shell):
    spec, words = WRONG[name]
    done = shell("train", "spec.toml", spec=spec)
    assert done.returncode == 2, done.stderr[-800:]
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "spec.toml" in done.stderr and words in done.stderr


@pytest.mark.parametrize(
    "arguments", [("compile", "nowhere.toml"), ("evaluate", "nowhere"), ("evaluate", "spec.toml"), ("compile", ".")]
)
def test_missing_files(arguments, shell):
    done = shell(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.startswith("error: ")


def test_errors_are_one_line_in_a_process_too(process):
    done = process("check", "spec.toml", spec=WRONG["unknown scheme"][0])
    assert done.returncode == 2 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_help_is_cheap():
    """Neither torch nor sympy nor numpy is imported for --help, and nothing at all for `import pdeloom`."""
    code = "import sys; sys.argv = ['pdeloom', '--help']\nfrom pdeloom.runtime.cli import app\ntry: app()\nexcept SystemExit: pass\nassert not {'torch', 'sympy', 'numpy'} & set(sys.modules), 'heavy'"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
    code = "import sys; before = set(sys.modules); import pdeloom; assert not {'torch', 'sympy', 'numpy', 'typer'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_specs_in_examples_compile(shell):
    specs = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))
    assert specs
    for spec in specs:
        done = shell("compile", str(spec), "-o", "out.py")
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_memory_of_large_tensors_is_kept():
    """Pages that are fetched anew, for 64 MB in turn with 48: a few instead of all."""

    def fetched(first):
        code = f"""
import resource, torch
from pdeloom.runtime.cli import keep_memory
{first}
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for n in (2**24, 3 * 2**22) * 3:
        torch.empty(n).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
pages()
print(min(pages(), pages()))
"""
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert fetched("keep_memory()") < fetched("") / 4
