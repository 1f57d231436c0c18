"""What a multigrid solve costs: ours, by hand, PyAMG, SciPy, in one process. Writes docs/multigrid_benchmarks.md.

    make bench            or    python benchmarks/multigrid.py [--quick]

Work: −Δu = f on 1023² nodes between Dirichlet walls, float64, f white noise, until the residual is 1e-8 of the first.
The hand-written form is V(2,2) with red–black Gauss–Seidel by strided slices in place, full weighting and linear
interpolation, the coarsest grid solved exactly: what one would write for this one problem. Every row is the best of
several repetitions, and the allocator keeps what is freed: else half of every time is the page faults of fresh arrays,
by hand and emitted, and the ratios are noise. Memory is the peak over the size of a fresh process, without that.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np
import scipy.fft
import scipy.sparse
import scipy.sparse.linalg
import torch
from sympy import Eq
from torch import Tensor

import pdeloom as loom

ROOT = Path(__file__).parents[1]
TOL = 1e-8
_KEEP = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_TOP_PAD_": str(2**28)}


def right_hand_side(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, n))


def network(n: int, **options: Any) -> Any:
    x, y = loom.coordinates("x y")
    u, f = loom.field("u", x, y), loom.data("f", x, y)
    pde = loom.PDE(Eq(-loom.laplacian(u), f), boundary=loom.Dirichlet(0))
    return loom.compile(pde, grid=loom.Grid(1 / (n + 1)), scheme=loom.Multigrid(**options))


# --- by hand ------------------------------------------------------------------------------------------------------


def sweep(u: Tensor, b: Tensor, h2: float) -> None:
    for colour in (((0, 0), (1, 1)), ((0, 1), (1, 0))):
        for i, j in colour:
            v = u[i:, j:]
            near = v[:-2:2, 1:-1:2] + v[2::2, 1:-1:2] + v[1:-1:2, :-2:2] + v[1:-1:2, 2::2]
            v[1:-1:2, 1:-1:2] = (near + h2 * b[i::2, j::2]) * 0.25


def v_cycle(u: Tensor, b: Tensor, h: float) -> None:
    """One V(2,2)-cycle in place; `u` carries a ring of zeros."""
    h2 = h * h
    if b.shape[0] == 1:
        u[1, 1] = b[0, 0] * h2 / 4
        return
    sweep(u, b, h2)
    sweep(u, b, h2)
    r = b - (4 * u[1:-1, 1:-1] - u[:-2, 1:-1] - u[2:, 1:-1] - u[1:-1, :-2] - u[1:-1, 2:]) / h2
    t = 0.25 * (r[:-2:2] + r[2::2]) + 0.5 * r[1::2]
    c = 0.25 * (t[:, :-2:2] + t[:, 2::2]) + 0.5 * t[:, 1::2]
    v = torch.zeros(c.shape[0] + 2, c.shape[1] + 2, dtype=b.dtype)
    v_cycle(v, c, 2 * h)
    w = u[1:-1, 1:-1]
    w[1::2, 1::2] += v[1:-1, 1:-1]
    w[::2, 1::2] += 0.5 * (v[:-1, 1:-1] + v[1:, 1:-1])
    w[1::2, ::2] += 0.5 * (v[1:-1, :-1] + v[1:-1, 1:])
    w[::2, ::2] += 0.25 * (v[:-1, :-1] + v[1:, :-1] + v[:-1, 1:] + v[1:, 1:])
    sweep(u, b, h2)
    sweep(u, b, h2)


def by_hand(f: np.ndarray, cycles: int) -> np.ndarray:
    b = torch.from_numpy(f)
    u = torch.zeros(b.shape[0] + 2, b.shape[1] + 2, dtype=b.dtype)
    for _ in range(cycles):
        v_cycle(u, b, 1 / (b.shape[0] + 1))
    return u[1:-1, 1:-1].numpy()


# --- the others ---------------------------------------------------------------------------------------------------


def matrix(n: int) -> scipy.sparse.csr_array:
    T = scipy.sparse.diags_array([-np.ones(n - 1), np.full(n, 2.0), -np.ones(n - 1)], offsets=[-1, 0, 1])
    eye = scipy.sparse.eye_array(n)
    return ((scipy.sparse.kron(T, eye) + scipy.sparse.kron(eye, T)) * (n + 1) ** 2).tocsr()


def sine_transform(f: np.ndarray) -> np.ndarray:
    n = f.shape[0]
    eigenvalues = (2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))) * (n + 1) ** 2
    g = scipy.fft.dstn(f, type=1, norm="ortho", workers=2) / (eigenvalues[:, None] + eigenvalues)
    found: np.ndarray = scipy.fft.idstn(g, type=1, norm="ortho", workers=2)
    return found


def residual(u: np.ndarray, f: np.ndarray) -> float:
    n, p = f.shape[0], np.pad(u, 1)
    Au = (4 * u - p[:-2, 1:-1] - p[2:, 1:-1] - p[1:-1, :-2] - p[1:-1, 2:]) * (n + 1) ** 2
    return float(np.linalg.norm(f - Au) / np.linalg.norm(f))


def cycles_needed(n: int, **options: Any) -> int:
    """How many cycles reach the tolerance."""
    net = network(n, cycles=40, tol=TOL, **options)
    zero = torch.zeros(1, 1, n, n, dtype=torch.float64)
    with torch.no_grad():
        _, history = net.module(torch.float64)(zero, f=torch.from_numpy(right_hand_side(n))[None, None], history=True)
    return len(history) - 1


def ours(n: int, compiled: bool = False, **options: Any) -> Callable[[], np.ndarray]:
    module = network(n, **options).module(torch.float64)
    f, zero = torch.from_numpy(right_hand_side(n))[None, None], torch.zeros(1, 1, n, n, dtype=torch.float64)
    if compiled:
        level = type(module.levels[0])
        torch._dynamo.config.recompile_limit = 100  # one per level and corner
        torch._dynamo.config.specialize_float = True  # else torch 2.13 gets the spacings of other levels wrong
        for name in ("relax", "residual"):
            setattr(level, name, torch.compile(getattr(level, name)))

    def run() -> np.ndarray:
        with torch.no_grad():
            found: np.ndarray = module(zero, f=f)[0, 0].numpy()
        return found

    return run


def amg(n: int, kind: str) -> tuple[float, Callable[[], np.ndarray]]:
    """Seconds of the set-up, and the solve."""
    import pyamg

    A, f = matrix(n), right_hand_side(n)
    make = {"ruge-stuben": pyamg.ruge_stuben_solver, "smoothed aggregation": pyamg.smoothed_aggregation_solver}[kind]
    csr = scipy.sparse.csr_matrix(A)
    started = time.perf_counter()
    solver = make(csr)
    setup = time.perf_counter() - started
    accelerate = "cg" if kind == "smoothed aggregation" else None

    def run() -> np.ndarray:
        found: np.ndarray = solver.solve(f.ravel(), tol=TOL, accel=accelerate).reshape(n, n)
        return found

    return setup, run


def splu(n: int) -> np.ndarray:
    found: np.ndarray = scipy.sparse.linalg.spsolve(matrix(n).tocsc(), right_hand_side(n).ravel()).reshape(n, n)
    return found


def best(call: Callable[[], Any], repeat: int) -> float:
    call()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def memory(which: str, n: int) -> float:
    """Peak memory of one solve in MB, measured in a process of its own."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import multigrid as m\n"
        "def size(key):\n"
        "    line = next(x for x in open('/proc/self/status') if x.startswith(key))\n"
        "    return int(line.split()[1]) / 1024\n"
        f"f = m.right_hand_side({n}); open('/proc/self/clear_refs', 'w').write('5'); before = size('VmRSS')\n"
        f"{which}\n"
        "print(size('VmHWM') - before)"
    )
    env = {k: v for k, v in os.environ.items() if k not in _KEEP}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="255² nodes, few repetitions")
    quick = parser.parse_args().quick
    if not _KEEP.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_KEEP})
    torch.set_num_threads(2)
    n, repeat = (255, 2) if quick else (1023, 5)
    f = right_hand_side(n)
    exact = sine_transform(f)
    rows: list[tuple[str, int | str, float, float, np.ndarray, str]] = []

    def add(name: str, cycles: int | str, setup: float, call: Callable[[], np.ndarray], repeat: int, code: str) -> None:
        rows.append((name, cycles, setup, best(call, repeat), call(), code))

    count = cycles_needed(n)
    add("by hand, V(2,2), red–black", count, 0, lambda: by_hand(f, count), repeat, f"m.by_hand(f, {count})")
    add("emitted, V(2,2), red–black", count, 0, ours(n, cycles=count), repeat, f"m.ours({n}, cycles={count})()")
    add("by hand again", count, 0, lambda: by_hand(f, count), repeat, "")
    add("emitted again", count, 0, ours(n, cycles=count), repeat, "")
    slow = cycles_needed(n, smoother="jacobi")
    add("emitted, V(2,2), Jacobi", slow, 0, ours(n, cycles=slow, smoother="jacobi"), repeat, "")
    first = {"first": "full", "cycle": "F"}
    few = cycles_needed(n, **first)
    add("emitted, full start, F(2,2)", few, 0, ours(n, cycles=few, **first), repeat, "")
    started = time.perf_counter()
    compiled = ours(n, compiled=True, cycles=count)
    compiled()
    add("emitted, smoother compiled", count, time.perf_counter() - started, compiled, repeat, "")
    for kind in ("ruge-stuben", "smoothed aggregation"):
        setup, run = amg(n, kind)
        add(f"PyAMG {kind}" + " + CG" * ("agg" in kind), "", setup, run, 1, f"m.amg({n}, {kind!r})[1]()")
    add("SciPy, sparse direct", "", 0, lambda: splu(n), 1, f"m.splu({n})")
    add("SciPy, sine transform", "", 0, lambda: sine_transform(f), repeat, "m.sine_transform(f)")
    hand = min(t for name, _, _, t, _, _ in rows if "by hand" in name)
    lines = [
        "# Multigrid benchmarks",
        "",
        f"Written by `python benchmarks/multigrid.py`: {platform.machine()}, 2 threads, torch {torch.__version__}.",
        "",
        f"−Δu = f on {n}² nodes between Dirichlet walls, float64, residual {TOL:g}; its docstring says how.",
        "The set-up is counted apart, the memory is the peak above what is there before.",
        "",
        "| | cycles | set-up, ms | solve, ms | ÷ by hand | residual | error | memory, MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, cycles, setup, seconds, u, code in rows:
        error = abs(u - exact).max() / abs(exact).max()
        peak = f"{memory(code, n):.0f}" if code else ""
        lines.append(
            f"| {name} | {cycles} | {setup * 1e3:.0f} | {seconds * 1e3:.0f} | {seconds / hand:.2f} | "
            f"{residual(u, f):.1e} | {error:.1e} | {peak} |"
        )
    emitted = min(t for name, _, _, t, _, _ in rows if name in ("emitted, V(2,2), red–black", "emitted again"))
    amg_best = min(setup + t for name, _, setup, t, _, _ in rows if name.startswith("PyAMG"))
    lines += [
        "",
        "The error is relative to SciPy's sine transform, which solves this one problem exactly. The emitted cycle",
        f"takes {emitted / hand:.2f} of the time by hand; it is {amg_best / emitted:.1f} times as fast as the best of",
        f"PyAMG, its set-up included, and the sine transform {emitted / rows[-1][3]:.1f} times as fast as it.",
    ]
    print("\n".join(lines))
    if not quick:
        (ROOT / "docs" / "multigrid_benchmarks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
