"""PeronaMalik2d: the ResNet that explicit Euler is for this PDE.

PDE          ∂t u = ∂x[∂x u/(1 + ((∂x u)² + (∂y u)²)/λ²)] + ∂y[∂y u/(1 + ((∂x u)² + (∂y u)²)/λ²)]
diffusivity  g = 1/(1 + ((∂x u)² + (∂y u)²)/λ²)
boundary     no flux
grid         h = 1, 1, vertex-centred
space        finite differences of order 2
scheme       u^{k+1} = u^k + τ f(u^k), 10 steps
block        u − τ [K_x* (G(u) K_x u) + K_y* (G(u) K_y u)]
stencil      K_x  {(-1/2, 0): -1, (1/2, 0): 1}
stencil      K_y  {(0, -1/2): -1, (0, 1/2): 1}
stability    norm decrease: proved for tau <= 0.25 = 2/(L‖K‖²), L‖K‖² = 8
assumes      0 ≤ g ≤ 1 for g = 1/(1 + ((∂x u)² + (∂y u)²)/λ²)
assumes      ‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size
trained      lam, tau (one set per step)

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

import torch
from torch import Tensor, nn

__all__ = ["PeronaMalik2d"]

CERTIFICATE = {
    "notion": "norm decrease",
    "status": "proved",
    "norm": "L²",
    "formula": "2/(L‖K‖²), L‖K‖² = 8",
    "assumptions": [
        "0 ≤ g ≤ 1 for g = 1/(1 + ((∂x u)² + (∂y u)²)/λ²)",
        "‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size",
    ],
    "notions": {
        "norm decrease": "proved",
        "nonexpansive": "refuted",
        "energy decrease": "proved",
        "maximum principle": "proved",
        "von Neumann": "proved",
        "power bounded": "proved",
        "CFL": "unknown",
    },
    "tau": 0.225,
    "tau_max": 0.25,
}


class PeronaMalik2d(nn.Module):
    """PeronaMalik2d: the ResNet that explicit Euler is for this PDE.

    forward: (B, 1, X, Y) -> (B, 1, X, Y), any batch and grid size.
    """

    steps = 10
    tau_bound = 0.25  # 2/(L‖K‖²), L‖K‖² = 8

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        lam = torch.full((self.steps,), 0.3, dtype=dtype, device=device)
        self.log_lam = nn.Parameter(lam.log())
        # τ as a fraction of its bound
        tau = torch.full((self.steps,), 0.9, dtype=dtype, device=device)
        self.logit_tau = nn.Parameter(tau.logit())

    def forward(self, u: Tensor) -> Tensor:
        """u^0 to u^10."""
        self.check(u)
        state = self.extend(u)
        for k in range(self.steps):
            state = self.step(state, k)
        return state[..., 2:-2, 2:-2]

    def step(self, state: Tensor, k: int) -> Tensor:
        """One block: u − τ [K_x* (G(u) K_x u) + K_y* (G(u) K_y u)].

        `state` carries its ghost ring, and so does the result.
        """
        lam = self.get_lam(k)
        tau = self.tau(k)
        u = state

        # u_x = K_x u ≈ ∂x u at the faces x+½
        u_x = u[..., 1:, 1:-1] - u[..., :-1, 1:-1]

        # u_y = K_y u ≈ ∂y u at the faces y+½
        u_y = u[..., 1:-1, 1:] - u[..., 1:-1, :-1]

        # u_x2 = u_x²
        u_x2 = u_x**2

        # u_x2_mean = the mean of u_x2 at the nodes
        u_x2_mean = (u_x2[..., 1:, :] + u_x2[..., :-1, :]) / 2

        # u_y2 = u_y²
        u_y2 = u_y**2

        # u_y2_mean = the mean of u_y2 at the nodes
        u_y2_mean = (u_y2[..., 1:] + u_y2[..., :-1]) / 2

        # q = u_x2_mean + u_y2_mean
        q = u_x2_mean + u_y2_mean

        # g = 1/(1 + q/λ²)
        g = lam**2 / (lam**2 + q.clamp(max=1e30))

        # g_x = the mean of g at the faces x+½
        g_x = (g[..., 1:, 1:-1] + g[..., :-1, 1:-1]) / 2

        # flux_x = g_x·u_x
        flux_x = g_x * u_x[..., 1:-1, 1:-1]

        # div_x = K_x* flux_x ≈ −∂x flux_x, the exact adjoint
        div_x = flux_x[..., :-1, :] - flux_x[..., 1:, :]

        # g_y = the mean of g at the faces y+½
        g_y = (g[..., 1:-1, 1:] + g[..., 1:-1, :-1]) / 2

        # flux_y = g_y·u_y
        flux_y = g_y * u_y[..., 1:-1, 1:-1]

        # div_y = K_y* flux_y ≈ −∂y flux_y, the exact adjoint
        div_y = flux_y[..., :-1] - flux_y[..., 1:]

        # u_new = u − div_x·τ − div_y·τ
        u_new = u[..., 2:-2, 2:-2] - tau * (div_x + div_y)

        return self.extend(u_new)

    def energy(self, u: Tensor, k: int = 0) -> Tensor:
        """The energy E of which f is minus the gradient: (B, …) to (B,)."""
        lam = self.get_lam(k)
        u = self.extend(u)

        # u_x = K_x u ≈ ∂x u at the faces x+½
        u_x = u[..., 2:-1, 2:-2] - u[..., 1:-2, 2:-2]

        # u_y = K_y u ≈ ∂y u at the faces y+½
        u_y = u[..., 2:-2, 2:-1] - u[..., 2:-2, 1:-2]

        # u_x2 = u_x²
        u_x2 = u_x**2

        # u_x2_mean = the mean of u_x2 at the nodes
        u_x2_mean = (u_x2[..., 1:, :] + u_x2[..., :-1, :]) / 2

        # u_y2 = u_y²
        u_y2 = u_y**2

        # u_y2_mean = the mean of u_y2 at the nodes
        u_y2_mean = (u_y2[..., 1:] + u_y2[..., :-1]) / 2

        # q = u_x2_mean + u_y2_mean
        q = u_x2_mean + u_y2_mean

        # energy = λ²·log(1 + q/λ²)/2
        energy = 0.5 * lam**2 * torch.log(1 + q / lam**2)

        # E = Σ energy
        E = energy.sum((-2, -1), keepdim=True)

        return E.flatten()

    def extend(self, u: Tensor) -> Tensor:
        """The ghost ring: no flux."""
        low = u[..., :2, :].flip(-2)
        high = u[..., -2:, :].flip(-2)
        u = torch.cat((low, u, high), dim=-2)
        low = u[..., :2].flip(-1)
        high = u[..., -2:].flip(-1)
        u = torch.cat((low, u, high), dim=-1)
        return u

    def get_lam(self, k: int) -> Tensor:
        """λ of step k, positive and finite for every weight."""
        return self.log_lam[k].clamp(-20, 20).exp()

    def tau(self, k: int) -> Tensor:
        """τ of step k: below its bound for every weight."""
        return self.tau_bound * self.logit_tau[k].sigmoid()

    def check(self, u: Tensor) -> None:
        """Refuse values and shapes the network cannot mean."""
        if not isinstance(u, Tensor) or not u.is_floating_point():
            given = getattr(u, "dtype", type(u).__name__)
            raise ValueError(f"expected floating point numbers, got {given}")
        if u.dim() != 4 or u.shape[1] != 1:
            raise ValueError(f"expected shape (B, 1, X, Y), got {tuple(u.shape)}")
        if not torch.compiler.is_compiling():
            for size, least in zip(u.shape[2:], (2, 2)):
                if size < least:
                    raise ValueError(f"an axis has {size} nodes, fewer than {least}")

    @torch.no_grad()
    def certificate(self) -> dict:
        """CERTIFICATE for the weights as they are now."""
        tau = [float(self.tau(k)) for k in range(self.steps)]
        limits = {
            "norm decrease": 0.25,
            "energy decrease": 0.25,
            "maximum principle": 0.25,
            "von Neumann": 0.25,
            "power bounded": 0.25,
        }
        limits = [limits] * self.steps
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
