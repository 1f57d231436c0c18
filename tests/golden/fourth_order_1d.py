"""PeronaMalik1d: the ResNet that explicit Euler is for this PDE.

PDE          ∂t v = -∂xx[∂xx v/(1 + (∂xx v)²/λ²)]
diffusivity  g = 1/(1 + (∂xx v)²/λ²)
boundary     no flux
grid         h = 0.5, vertex-centred
space        finite differences of order 2
scheme       u^{k+1} = u^k + τ f(u^k), 3 steps
block        u − τ [K_xx* Φ(K_xx u)]
stencil      K_xx  {-1: 4, 0: -8, 1: 4}  (trained)
stability    norm decrease: proved for tau <= 0.0078125 = 2/(L‖K‖²), L‖K‖² = norm2_K_xx
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂xx v)²/λ²)
assumes      ‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size
trained      stencil, tau (one set per step)

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

import torch
from torch import Tensor, nn

__all__ = ["PeronaMalik1d"]

CERTIFICATE = {
    "notion": "norm decrease",
    "status": "proved",
    "norm": "L²",
    "formula": "2/(L‖K‖²), L‖K‖² = norm2_K_xx",
    "assumptions": [
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂xx v)²/λ²)",
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
    "tau": 0.00703125,
    "tau_max": 0.0078125,
}


class PeronaMalik1d(nn.Module):
    """PeronaMalik1d: the ResNet that explicit Euler is for this PDE.

    forward: (B, 1, X) -> (B, 1, X), any batch and grid size.
    """

    steps = 3

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        # τ as a fraction of its bound
        tau = torch.full((self.steps,), 0.9, dtype=dtype, device=device)
        self.logit_tau = nn.Parameter(tau.logit())
        weights = [
            4,
        ]
        w = torch.tensor(weights, dtype=dtype, device=device)
        self.K_xx = nn.Parameter(w.repeat(self.steps, 1))

    def forward(self, u: Tensor) -> Tensor:
        """u^0 to u^3."""
        self.check(u)
        state = self.extend(u)
        for k in range(self.steps):
            state = self.step(state, k)
        return state[..., 2:-2]

    def step(self, state: Tensor, k: int) -> Tensor:
        """One block: u − τ [K_xx* Φ(K_xx u)].

        `state` carries its ghost ring, and so does the result.
        """
        lam = 0.3
        tau = self.tau(k)
        w_K_xx = self.K_xx[k]
        v = state

        # v_xx = K_xx v ≈ ∂xx v at the nodes
        v_xx_1 = v[..., :-2] - 2 * v[..., 1:-1] + v[..., 2:]
        v_xx = w_K_xx[0] * v_xx_1

        # flux_xx = v_xx/(1 + v_xx²/λ²)
        flux_xx = lam**2 * v_xx / (lam**2 + v_xx**2)

        # div_xx = K_xx* flux_xx ≈ ∂xx flux_xx, the exact adjoint
        div_xx_1 = flux_xx[..., 2:] - 2 * flux_xx[..., 1:-1] + flux_xx[..., :-2]
        div_xx = w_K_xx[0] * div_xx_1

        # u_new = v − div_xx·τ
        u_new = v[..., 2:-2] - tau * div_xx

        return self.extend(u_new)

    def extend(self, v: Tensor) -> Tensor:
        """The ghost ring: no flux."""
        low = v[..., :2].flip(-1)
        high = v[..., -2:].flip(-1)
        v = torch.cat((low, v, high), dim=-1)
        return v

    def norm2_K_xx(self, k: int) -> Tensor:
        """A bound on the squared norm of K_xx: the squared sum of its taps."""
        w = self.K_xx[k]
        bound = 4 * w[0].abs()
        return bound**2

    def rho(self, k: int) -> Tensor:
        """The bound ρ on the spectrum of −f for the weights of step k."""
        norm2_K_xx = self.norm2_K_xx(k)
        rho = norm2_K_xx
        return rho

    def tau_max(self, k: int) -> Tensor:
        """The bound of norm decrease for the weights of step k."""
        return 2 / self.rho(k).clamp(min=1e-12)

    def limits(self, k: int) -> dict:
        """The largest τ of step k for which a notion is proved, by its name."""
        norm2_K_xx = self.norm2_K_xx(k)
        rate = norm2_K_xx
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
        if u.dim() != 3 or u.shape[1] != 1:
            raise ValueError(f"expected shape (B, 1, X), got {tuple(u.shape)}")
        if not torch.compiler.is_compiling():
            for size, least in zip(u.shape[2:], (2,)):
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
