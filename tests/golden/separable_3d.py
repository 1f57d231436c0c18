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
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂x u)²/λ²)
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂y u)²/λ²)
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂z u)²/λ²)
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
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂x u)²/λ²)",
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂y u)²/λ²)",
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂z u)²/λ²)",
        "‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size",
    ],
    "tau": 0.001,
    "tau_max": 0.030612244897959183,
    "notions": {
        "norm decrease": "proved",
        "nonexpansive": "refuted",
        "maximum principle": "refuted",
        "power bounded": "proved",
    },
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
        """Refuse shapes the network cannot mean."""
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
        tau_max = [0.030612244897959183] * self.steps
        rounding = 1 + torch.finfo(next(self.parameters()).dtype).eps
        kept = all(0 <= t <= b * rounding for t, b in zip(tau, tau_max))
        kept = kept and all(bool(p.isfinite().all()) for p in self.parameters())
        status = CERTIFICATE["status"] if kept else "unknown"
        new = {"status": status, "tau": tau, "tau_max": tau_max}
        new["notions"] = {CERTIFICATE["notion"]: status}
        return {**CERTIFICATE, **new}
