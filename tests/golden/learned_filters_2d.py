"""PeronaMalik2d: the ResNet that explicit Euler is for this PDE.

PDE          ∂t u = ∂x[∂x u/(1 + (∂x u)²/λ²)] + ∂y[∂y u/(1 + (∂y u)²/λ²)]
diffusivity  g = 1/(1 + (K u)_c²/λ²)
boundary     no flux
grid         h = 1, 1, vertex-centred
space        a bank of 4 filters of 3 taps per axis
scheme       u^{k+1} = u^k + τ f(u^k), 3 steps
block        u − τ [K* Φ(K u)]
filters      K  a bank of 4 filters of 3 taps per axis  (trained)
stability    norm decrease: proved for tau <= 0.158112 = 2/(L‖K‖²), L‖K‖² = norm2_K
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (K u)_c²/λ²)
assumes      ‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size
trained      lam, stencil, tau (one set per step)

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

import math

import torch
from torch import Tensor, nn

__all__ = ["PeronaMalik2d"]

CERTIFICATE = {
    "notion": "norm decrease",
    "status": "proved",
    "norm": "L²",
    "formula": "2/(L‖K‖²), L‖K‖² = norm2_K",
    "assumptions": [
        "0 ≤ g ≤ 1 for g = 1/(1 + (K u)_c²/λ²)",
        "‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size",
    ],
    "notions": {
        "norm decrease": "proved",
        "nonexpansive": "refuted",
        "energy decrease": "proved",
        "maximum principle": "refuted",
        "von Neumann": "proved",
        "power bounded": "proved",
        "CFL": "unknown",
    },
    "tau": 0.14230084854008962,
    "tau_max": 0.1581120539334329,
}


def cosines(size: int, parities: tuple) -> Tensor:
    """The filters of the DCT, orthonormal, a row each with its taps flattened.

    All, or along an axis the even (0) or the odd ones (1) alone.
    """
    n = torch.arange(size, dtype=torch.float64)
    line = (math.pi / size * n[:, None] * (n + 0.5)).cos() * math.sqrt(2 / size)
    line[0] /= math.sqrt(2)
    basis = torch.ones(1, 1, dtype=torch.float64)
    for parity in parities:
        basis = torch.kron(basis, line if parity is None else line[parity::2])
    return basis


def weights_of(start: tuple, count: int) -> Tensor:
    """A row of `count` weights per filter from its entries (cosine, weight)."""
    rows = torch.zeros(len(start), count, dtype=torch.float64)
    for row, entries in zip(rows, start):
        for j, w in entries:
            row[j] = w
    return rows


def convolve(u: Tensor, filters: Tensor) -> Tensor:
    """K u without padding, for filters (C, inputs, …).

    The 3 rows of a window come as channels: with one of them alone, gradients take several times as long.
    """
    rows, size = filters.shape[2], u.shape[2] - filters.shape[2] + 1
    u = torch.cat([u[:, :, i : i + size] for i in range(rows)], 1)
    return nn.functional.conv2d(u, filters.transpose(1, 2).flatten(1, 2).unsqueeze(2))


def transpose(v: Tensor, filters: Tensor) -> Tensor:
    """Kᵀ v, the transpose of `convolve`: every row of a window is added where it lies."""
    rows, pad = filters.shape[2], nn.functional.pad
    kernel = filters.transpose(1, 2).flatten(1, 2).unsqueeze(2)
    v = nn.functional.conv_transpose2d(v, kernel).unflatten(1, (rows, -1))
    return sum(pad(v[:, i], (0, 0, i, rows - 1 - i)) for i in range(rows))


def by_rows(function, *values: Tensor) -> Tensor:
    """function(*values), of large images on a CPU a few rows at a time.

    What it computes on the way then stays in the cache, and takes little memory.
    """
    if torch.compiler.is_compiling() or not values[0].is_cpu:
        return function(*values)
    size = max(v.numel() for v in values)
    count, rows = size // (2**18 * torch.get_num_threads()), values[0].shape[2]
    if count < 4:
        return function(*values)
    parts = zip(*(v.split(max(1, rows // count), 2) for v in values))
    return torch.cat([function(*part) for part in parts], 2)


def squared_norm(filters: Tensor) -> Tensor:
    """A bound on the squared norm of the bank of filters (C, 1, …), for every grid size.

    It is the supremum of Σ |k^(ξ)|² over the frequencies ξ, from 128 samples per axis of
    that trigonometric polynomial; its coefficients are the autocorrelation of the filters. The
    last factor bounds what lies between the samples (Duffin, Schaeffer, Bull. AMS 43, 1937).
    """
    k = filters.double()

    # about mirror planes ‖Σ K_p u‖² ≤ Σ ‖K_p u‖² / share_p for the parts that are even or odd
    parts = k[None]
    for a in (3, 4):
        flipped = parts.flip(a)
        parts = torch.cat(((parts + flipped) / 2, (parts - flipped) / 2))
    size = parts.flatten(2).norm(dim=2)
    share = torch.where(size > 0, size, 1) / torch.where(size > 0, size.sum(0), 1)
    k = (parts / share.sqrt().reshape(*share.shape, 1, 1, 1)).flatten(0, 1)

    k, n = k.transpose(0, 1), 2
    # the autocorrelation is even along every axis, and so is its Fourier transform
    r = nn.functional.conv2d(nn.functional.pad(k, (0, n, 0, n)), k)[0, 0]
    angle = torch.arange(65, dtype=k.dtype, device=k.device) * (2 * math.pi / 128)
    m = torch.arange(n + 1, dtype=k.dtype, device=k.device)
    cos = torch.where(m > 0, 2, 1) * (angle[:, None] * m).cos()
    for _ in range(2):  # one axis after the other
        r = torch.tensordot(r, cos, ([0], [1]))
    return (1.0024134473682718 * r.max()).to(filters.dtype)


# the weights of the cosines that filters start with: (cosine, weight), ... per filter
START_K = (
    (
        (2, -0.40824829046386296),
        (4, 0.5773502691896256),
        (5, 0.7071067811865472),
        (7, -0.9999999999999996),
    ),
    (
        (0, -0.40824829046386296),
        (1, 0.7071067811865472),
        (6, 0.5773502691896256),
        (7, -0.9999999999999996),
    ),
    ((0, 0.8365484945155763), (6, -0.29576455663168083)),
    ((0, 0.5122792391641535),),
)


class PeronaMalik2d(nn.Module):
    """PeronaMalik2d: the ResNet that explicit Euler is for this PDE.

    forward: (B, 1, X, Y) -> (B, 1, X, Y), any batch and grid size.
    """

    steps = 3

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        lam = torch.full((self.steps,), 0.3, dtype=dtype, device=device)
        self.log_lam = nn.Parameter(lam.log())
        # τ as a fraction of its bound
        tau = torch.full((self.steps,), 0.9000000000000001, dtype=dtype, device=device)
        self.logit_tau = nn.Parameter(tau.logit())
        # 4 filters of 3 × 3 taps
        basis = cosines(3, (None, None))[1:].to(dtype=dtype, device=device)
        self.register_buffer("basis_K", basis, persistent=False)
        w = weights_of(START_K, 8).to(dtype=dtype, device=device)
        self.weights_K = nn.Parameter(w.repeat(self.steps, 1, 1))

    def forward(self, u: Tensor) -> Tensor:
        """u^0 to u^3."""
        self.check(u)
        state = self.extend(u)
        for k in range(self.steps):
            state = self.step(state, k)
        return state[..., 1:-1, 1:-1]

    def step(self, state: Tensor, k: int) -> Tensor:
        """One block: u − τ [K* Φ(K u)].

        `state` carries its ghost ring, and so does the result.
        """
        lam = self.get_lam(k)
        tau = self.tau(k)
        K = self.K(k)
        u = state

        # u_K = K u, 4 filters
        u_K = convolve(u, K)

        # flux_K = u_K/(1 + u_K²/λ²)
        def flux_K_of(u_K: Tensor) -> Tensor:
            flux_K = lam**2 * u_K / (lam**2 + u_K**2)
            return flux_K

        flux_K = by_rows(flux_K_of, u_K)

        # div_K = K* flux_K, the exact transpose
        div_K = self.fold(transpose(flux_K, K))

        # u_new = u − div_K·τ
        u_new = u[..., 1:-1, 1:-1] - tau * div_K

        return self.extend(u_new)

    def extend(self, u: Tensor) -> Tensor:
        """The ghost ring: no flux."""
        if not torch.compiler.is_compiling():  # one pass, but it would not fuse
            return nn.functional.pad(u, (1, 1, 1, 1), mode="replicate")
        low = u[..., :1, :]
        high = u[..., -1:, :]
        u = torch.cat((low, u, high), dim=-2)
        low = u[..., :1]
        high = u[..., -1:]
        u = torch.cat((low, u, high), dim=-1)
        return u

    def fold(self, v: Tensor) -> Tensor:
        """The transpose of the ghost ring: what lies beyond the boundary is added to where it came from."""
        low, high = v[..., :1, :].flip(-2), v[..., -1:, :].flip(-2)
        v, size = v[..., 1:-1, :], v.shape[-2] - 3
        v = v + nn.functional.pad(low, (0, 0, 0, size))
        v = v + nn.functional.pad(high, (0, 0, size, 0))
        low, high = v[..., :1].flip(-1), v[..., -1:].flip(-1)
        v, size = v[..., 1:-1], v.shape[-1] - 3
        v = v + nn.functional.pad(low, (0, size))
        v = v + nn.functional.pad(high, (size, 0))
        return v

    def get_lam(self, k: int) -> Tensor:
        """λ of step k, positive and finite for every weight."""
        return self.log_lam[k].clamp(-20, 20).exp()

    def K(self, k: int) -> Tensor:
        """The filters of step k: (4, 1, 3, 3)."""
        return (self.weights_K[k] @ self.basis_K).reshape(-1, 1, 3, 3)

    def norm2_K(self, k: int) -> Tensor:
        """A bound on the squared norm of K for the weights of step k."""
        return squared_norm(self.K(k))

    def rho(self, k: int) -> Tensor:
        """The bound ρ on the spectrum of −f for the weights of step k."""
        norm2_K = self.norm2_K(k)
        rho = norm2_K
        return rho

    def tau_max(self, k: int) -> Tensor:
        """The bound of norm decrease for the weights of step k."""
        return 2 / self.rho(k).clamp(min=1e-12)

    def limits(self, k: int) -> dict:
        """The largest τ of step k for which a notion is proved, by its name."""
        norm2_K = self.norm2_K(k)
        rate = norm2_K
        return {
            "norm decrease": 2 / rate,
            "energy decrease": 2 / rate,
            "von Neumann": 2 / rate,
            "power bounded": 2 / rate,
        }

    def tau(self, k: int) -> Tensor:
        """τ of step k: below its bound for every weight."""
        return self.tau_max(k) * self.logit_tau[k].sigmoid()

    def check(self, u: Tensor) -> None:
        """Refuse values and shapes the network cannot mean."""
        if not isinstance(u, Tensor) or not u.is_floating_point():
            given = getattr(u, "dtype", type(u).__name__)
            raise ValueError(f"expected floating point numbers, got {given}")
        if u.dim() != 4 or u.shape[1] != 1:
            raise ValueError(f"expected shape (B, 1, X, Y), got {tuple(u.shape)}")
        dtype = next(self.buffers()).dtype
        if u.dtype != dtype and not torch.is_autocast_enabled(u.device.type):
            raise ValueError(f"u has type {u.dtype}, the filters have {dtype}")
        if not torch.compiler.is_compiling():
            for size, least in zip(u.shape[2:], (1, 1)):
                if size < least:
                    raise ValueError(f"an axis has {size} nodes, fewer than {least}")

    @torch.no_grad()
    def certificate(self) -> dict:
        """CERTIFICATE for the weights as they are now."""
        tau = [float(self.tau(k)) for k in range(self.steps)]
        limits = [self.limits(k) for k in range(self.steps)]
        rounding = 1 + torch.finfo(next(self.parameters()).dtype).eps
        kept = all(bool(p.isfinite().all()) for p in self.parameters())
        notions = {}
        for notion, status in CERTIFICATE["notions"].items():
            bounds = [float(b.get(notion, -1)) * rounding for b in limits]
            below = kept and all(0 <= t <= b for t, b in zip(tau, bounds))
            notions[notion] = status if below else "unknown"
        new = {"status": notions["norm decrease"], "tau": tau, "notions": notions}
        new["tau_max"] = [float(b["norm decrease"]) for b in limits]
        return {**CERTIFICATE, **new}
