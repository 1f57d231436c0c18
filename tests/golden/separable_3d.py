"""PeronaMalik3d: the ResNet that explicit Euler is for this PDE.

PDE          ∂t w = ∂x[∂x w/(1 + (∂x w)²/λ²)] + ∂y[∂y w/(1 + (∂y w)²/λ²)] + ∂z[∂z w/(1 + (∂z w)²/λ²)]
diffusivity  g = 1/(1 + (∂x w)²/λ²)
diffusivity  g = 1/(1 + (∂y w)²/λ²)
diffusivity  g = 1/(1 + (∂z w)²/λ²)
boundary     periodic
grid         h = 0.5, 0.5, 0.5, vertex-centred
space        finite differences of order 4
scheme       u^{k+1} = u^k + τ f(u^k), 3 steps
block        u − τ [K_x* Φ(K_x u) + K_y* Φ(K_y u) + K_z* Φ(K_z u)]
stencil      K_x  {(-3/2, 0, 0): 1/12, (-1/2, 0, 0): -9/4, (1/2, 0, 0): 9/4, (3/2, 0, 0): -1/12}
stencil      K_y  {(0, -3/2, 0): 1/12, (0, -1/2, 0): -9/4, (0, 1/2, 0): 9/4, (0, 3/2, 0): -1/12}
stencil      K_z  {(0, 0, -3/2): 1/12, (0, 0, -1/2): -9/4, (0, 0, 1/2): 9/4, (0, 0, 3/2): -1/12}
stability    norm decrease: proved for tau <= 0.0306122 = 2/(L‖K‖²), L‖K‖² = 196/3
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂x w)²/λ²)
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂y w)²/λ²)
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂z w)²/λ²)
assumes      ‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size
trained      lam (shared by all steps)

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

import torch
from torch import Tensor, nn

__all__ = ["PeronaMalik3d"]

CERTIFICATE = {
    "notion": "norm decrease",
    "status": "proved",
    "norm": "L²",
    "formula": "2/(L‖K‖²), L‖K‖² = 196/3",
    "assumptions": [
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂x w)²/λ²)",
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂y w)²/λ²)",
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂z w)²/λ²)",
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
    "tau": 0.001,
    "tau_max": 0.030612244897959183,
}


class PeronaMalik3d(nn.Module):
    """PeronaMalik3d: the ResNet that explicit Euler is for this PDE.

    forward: (B, 1, X, Y, Z) -> (B, 1, X, Y, Z), any batch and grid size.
    """

    steps = 3

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        lam = torch.full((), 0.3, dtype=dtype, device=device)
        self.log_lam = nn.Parameter(lam.log())

    def forward(self, u: Tensor) -> Tensor:
        """u^0 to u^3."""
        self.check(u)
        state = self.extend(u)
        for k in range(self.steps):
            state = self.step(state, k)
        return state[..., 3:-3, 3:-3, 3:-3]

    def step(self, state: Tensor, k: int) -> Tensor:
        """One block: u − τ [K_x* Φ(K_x u) + K_y* Φ(K_y u) + K_z* Φ(K_z u)].

        `state` carries its ghost ring, and so does the result.
        """
        lam = self.get_lam(k)
        tau = 0.001
        w_ = state

        # w_x = K_x w_ ≈ ∂x w_ at the faces x+½
        w_x_1 = w_[..., 2:-1, 3:-3, 3:-3] - w_[..., 1:-2, 3:-3, 3:-3]
        w_x = (27 * w_x_1 + w_[..., :-3, 3:-3, 3:-3] - w_[..., 3:, 3:-3, 3:-3]) / 12

        # flux_x = w_x/(1 + w_x²/λ²)
        flux_x = lam**2 * w_x / (lam**2 + w_x**2)

        # div_x = K_x* flux_x ≈ −∂x flux_x, the exact adjoint
        div_x_1 = flux_x[..., 1:-2, :, :] - flux_x[..., 2:-1, :, :]
        div_x = (27 * div_x_1 + flux_x[..., 3:, :, :] - flux_x[..., :-3, :, :]) / 12

        # w_y = K_y w_ ≈ ∂y w_ at the faces y+½
        w_y_1 = w_[..., 3:-3, 2:-1, 3:-3] - w_[..., 3:-3, 1:-2, 3:-3]
        w_y = (27 * w_y_1 + w_[..., 3:-3, :-3, 3:-3] - w_[..., 3:-3, 3:, 3:-3]) / 12

        # flux_y = w_y/(1 + w_y²/λ²)
        flux_y = lam**2 * w_y / (lam**2 + w_y**2)

        # div_y = K_y* flux_y ≈ −∂y flux_y, the exact adjoint
        div_y_1 = flux_y[..., 1:-2, :] - flux_y[..., 2:-1, :]
        div_y = (27 * div_y_1 + flux_y[..., 3:, :] - flux_y[..., :-3, :]) / 12

        # w_z = K_z w_ ≈ ∂z w_ at the faces z+½
        w_z_1 = w_[..., 3:-3, 3:-3, 2:-1] - w_[..., 3:-3, 3:-3, 1:-2]
        w_z = (27 * w_z_1 + w_[..., 3:-3, 3:-3, :-3] - w_[..., 3:-3, 3:-3, 3:]) / 12

        # flux_z = w_z/(1 + w_z²/λ²)
        flux_z = lam**2 * w_z / (lam**2 + w_z**2)

        # div_z = K_z* flux_z ≈ −∂z flux_z, the exact adjoint
        div_z_1 = flux_z[..., 1:-2] - flux_z[..., 2:-1]
        div_z = (27 * div_z_1 + flux_z[..., 3:] - flux_z[..., :-3]) / 12

        # u_new = w_ − div_x·τ − div_y·τ − div_z·τ
        u_new = w_[..., 3:-3, 3:-3, 3:-3] - tau * (div_x + div_y + div_z)

        return self.extend(u_new)

    def energy(self, u: Tensor, k: int = 0) -> Tensor:
        """The energy E of which f is minus the gradient: (B, …) to (B,)."""
        lam = self.get_lam(k)
        w_ = self.extend(u)

        # w_x = K_x w_ ≈ ∂x w_ at the faces x+½
        w_x_1 = w_[..., 4:-2, 3:-3, 3:-3] - w_[..., 3:-3, 3:-3, 3:-3]
        w_x = (27 * w_x_1 + w_[..., 2:-4, 3:-3, 3:-3] - w_[..., 5:-1, 3:-3, 3:-3]) / 12

        # energy_x = λ²·log(1 + w_x²/λ²)/2
        energy_x = 0.5 * lam**2 * torch.log(1 + (w_x / lam) ** 2)

        # w_y = K_y w_ ≈ ∂y w_ at the faces y+½
        w_y_1 = w_[..., 3:-3, 4:-2, 3:-3] - w_[..., 3:-3, 3:-3, 3:-3]
        w_y = (27 * w_y_1 + w_[..., 3:-3, 2:-4, 3:-3] - w_[..., 3:-3, 5:-1, 3:-3]) / 12

        # energy_y = λ²·log(1 + w_y²/λ²)/2
        energy_y = 0.5 * lam**2 * torch.log(1 + (w_y / lam) ** 2)

        # w_z = K_z w_ ≈ ∂z w_ at the faces z+½
        w_z_1 = w_[..., 3:-3, 3:-3, 4:-2] - w_[..., 3:-3, 3:-3, 3:-3]
        w_z = (27 * w_z_1 + w_[..., 3:-3, 3:-3, 2:-4] - w_[..., 3:-3, 3:-3, 5:-1]) / 12

        # energy_z = λ²·log(1 + w_z²/λ²)/2
        energy_z = 0.5 * lam**2 * torch.log(1 + (w_z / lam) ** 2)

        # energy_x_sum = Σ energy_x
        energy_x_sum = energy_x.sum((-3, -2, -1), keepdim=True)

        # energy_y_sum = Σ energy_y
        energy_y_sum = energy_y.sum((-3, -2, -1), keepdim=True)

        # energy_z_sum = Σ energy_z
        energy_z_sum = energy_z.sum((-3, -2, -1), keepdim=True)

        # E = energy_x_sum/8 + energy_y_sum/8 + energy_z_sum/8
        E = 0.125 * (energy_x_sum + energy_y_sum + energy_z_sum)

        return E.flatten()

    def extend(self, w_: Tensor) -> Tensor:
        """The ghost ring: periodic."""
        low = w_[..., -3:, :, :]
        high = w_[..., :3, :, :]
        w_ = torch.cat((low, w_, high), dim=-3)
        low = w_[..., -3:, :]
        high = w_[..., :3, :]
        w_ = torch.cat((low, w_, high), dim=-2)
        low = w_[..., -3:]
        high = w_[..., :3]
        w_ = torch.cat((low, w_, high), dim=-1)
        return w_

    def get_lam(self, k: int) -> Tensor:
        """λ of step k, positive and finite for every weight."""
        return self.log_lam.clamp(-20, 20).exp()

    def check(self, u: Tensor) -> None:
        """Refuse values and shapes the network cannot mean."""
        if not isinstance(u, Tensor) or not u.is_floating_point():
            given = getattr(u, "dtype", type(u).__name__)
            raise ValueError(f"expected floating point numbers, got {given}")
        if u.dim() != 5 or u.shape[1] != 1:
            raise ValueError(f"expected shape (B, 1, X, Y, Z), got {tuple(u.shape)}")
        if not torch.compiler.is_compiling():
            for size, least in zip(u.shape[2:], (3, 3, 3)):
                if size < least:
                    raise ValueError(f"an axis has {size} nodes, fewer than {least}")

    @torch.no_grad()
    def certificate(self) -> dict:
        """CERTIFICATE for the weights as they are now."""
        tau = [0.001] * self.steps
        limits = {
            "norm decrease": 0.030612244897959183,
            "energy decrease": 0.030612244897959183,
            "von Neumann": 0.030612244897959183,
            "power bounded": 0.030612244897959183,
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
