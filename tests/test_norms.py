"""Norms of filter banks: never too small, tight where that can be, differentiable; against the exact norm."""

from __future__ import annotations

import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pdeloom as loom
from pdeloom.runtime.norms import BOUNDARIES, bank_norm, parity_parts


def apply(w, boundary, u):
    """K u by padding and correlation, written out: (B, C_in, *grid) to (B, C_out, *grid)."""
    for a, taps in enumerate(w.shape[2:]):
        axis, n = a + 2, u.shape[a + 2]
        before = (taps - 1) // 2
        index = torch.arange(-before, n + taps - 1 - before)
        inside = (index >= 0) & (index < n)
        ones = [-1 if i == axis else 1 for i in range(u.dim())]
        if boundary == "periodic":
            u = u.index_select(axis, index % n)
        elif boundary == "zero":
            u = u.index_select(axis, index.clamp(0, n - 1)) * inside.reshape(ones)
        else:
            folded = index % (2 * n)
            mirrored = folded >= n
            u = u.index_select(axis, torch.where(mirrored, 2 * n - 1 - folded, folded))
            u = u * torch.where(mirrored & (boundary == "odd"), -1.0, 1.0).reshape(ones)
    return (torch.conv1d, torch.conv2d, torch.conv3d)[w.dim() - 3](u, w)


def exact(w, boundary, shape):
    """‖K‖ from the dense matrix."""
    size = w.shape[1] * torch.Size(shape).numel()
    eye = torch.eye(size, dtype=torch.float64).reshape(size, w.shape[1], *shape)
    K = apply(w, boundary, eye).flatten(1)
    return float(torch.linalg.eigvalsh(K @ K.T)[-1].sqrt())


def lanczos(w, boundary, shape):
    """‖K‖ by Lanczos iteration on KᵀK, its transpose by automatic differentiation."""
    size = w.shape[1] * torch.Size(shape).numel()

    def product(x):
        u = torch.from_numpy(x).reshape(1, w.shape[1], *shape).requires_grad_()
        half = apply(w, boundary, u).square().sum() / 2
        return torch.autograd.grad(half, u)[0].reshape(-1).numpy()

    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype="float64")
    return float(scipy.sparse.linalg.eigsh(operator, k=1, tol=1e-10)[0][0] ** 0.5)


def bank(out, into, taps, seed=0, parity=False):
    generator = torch.Generator().manual_seed(seed)
    w = torch.randn(out, into, *taps, generator=generator, dtype=torch.float64)
    if not parity:
        return w
    parts = parity_parts(w)
    chosen = torch.randint(0, len(parts), (out,), generator=generator)
    return torch.stack([parts[p, o] for o, p in enumerate(chosen)])


SIZES = {
    "1d": ((64,), (5,), 1),
    "1d, two inputs": ((48,), (4,), 2),
    "2d": ((20, 18), (3, 5), 1),
    "3d": ((8, 8, 7), (3, 3, 3), 1),
}


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("size", SIZES)
def test_the_bound_is_a_bound_and_not_a_wild_one(size, boundary):
    shape, taps, into = SIZES[size]
    loose = 1.08 if boundary in ("periodic", "zero") else 2 ** (len(shape) / 2)  # at most 2^(d/2)
    for seed in range(5):
        w = bank(1 + 3 * seed, into, taps, seed)
        true, bound = exact(w, boundary, shape), float(bank_norm(w, boundary))
        assert true <= bound * (1 + 1e-12)
        if size != "3d" or boundary in ("even", "odd"):
            assert bound <= loose * true


@pytest.mark.parametrize("parity", [False, True])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_tightness_at_64_squared(boundary, parity):
    """Within 2 % for periodic and zero boundaries, and within 5 % about mirrors for kernels even or odd along each axis."""
    if boundary in ("even", "odd") and not parity:
        return
    for seed in range(3):
        w = bank(32, 1, (5, 5), seed, parity)
        ratio = float(bank_norm(w, boundary)) / lanczos(w, boundary, (64, 64))
        assert 1 - 1e-9 <= ratio <= (1.02 if boundary in ("periodic", "zero") else 1.05)


def test_rho_is_no_bound_about_mirrors():
    """Why the periodic supremum must not be used there: some bank exceeds it, and never the bound."""
    ratios = []
    for seed in range(60):
        w = bank(1, 1, (3,), seed)
        true = exact(w, "even", (32,))
        ratios.append(true / float(bank_norm(w, "periodic")))
        assert true <= float(bank_norm(w, "even"))
    assert max(ratios) > 1.1


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=6, max_size=6),
    boundary=st.sampled_from(BOUNDARIES),
    n=st.integers(3, 24),
)
def test_any_kernels_on_any_grid(values, boundary, n):
    w = torch.tensor(values, dtype=torch.float64).reshape(2, 1, 3)
    assert exact(w, boundary, (n,)) <= float(bank_norm(w, boundary)) * (1 + 1e-12) + 1e-150


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_the_gradient_is_that_of_the_bound(boundary):
    w = bank(3, 1, (3, 3)).requires_grad_()
    (gradient,) = torch.autograd.grad(bank_norm(w, boundary), w)
    direction = bank(3, 1, (3, 3), 1)
    slope = (bank_norm(w + 1e-5 * direction, boundary) - bank_norm(w - 1e-5 * direction, boundary)) / 2e-5
    tolerance = 1e-4 if boundary in ("periodic", "zero") else 0.3  # the weights of the parts count as constants
    assert float(slope.detach()) == pytest.approx(float((gradient * direction).sum()), rel=tolerance, abs=tolerance)


def test_parts_are_even_or_odd_and_sum_to_the_kernel():
    w = bank(2, 2, (3, 4, 5))
    parts = parity_parts(w)
    torch.testing.assert_close(parts.sum(0), w)
    for p, signs in enumerate(torch.cartesian_prod(*[torch.tensor([1.0, -1.0])] * 3).flip(1)):
        for a, sign in enumerate(signs):
            torch.testing.assert_close(parts[p].flip(a + 2), sign * parts[p])


def test_low_precision_rounds_upwards_and_bad_input_is_refused():
    w = bank(4, 1, (5,))
    for dtype in (torch.float32, torch.bfloat16):
        low = w.to(dtype)
        assert bank_norm(low).dtype == dtype and float(bank_norm(low)) >= exact(low.double(), "periodic", (64,))
    assert float(bank_norm(torch.zeros(2, 1, 3))) == 0
    for wrong, words in (
        (lambda: bank_norm(w, "reflect"), "boundary="),
        (lambda: bank_norm(torch.zeros(3, 3)), "kernels"),
        (lambda: bank_norm(w.long()), "real kernels"),
        (lambda: bank_norm(w * float("nan")), "not finite"),
        (lambda: bank_norm(w, samples=4), "too few"),
    ):
        with pytest.raises(loom.DataError, match=words):
            wrong()
