"""Diffusion2d: the ResNet that explicit Euler is for this PDE.

PDE          ∂t u = ∂x[∂x u·a] + ∂y[∂y u·a]
boundary     x: Dirichlet(0) / no flux; y: periodic
grid         h = 0.5, 0.5, vertex-centred
space        finite differences of order 2
scheme       u^{k+1} = u^k + τ f(u^k), 3 steps
block        u − τ [K_x* (G(u) K_x u) + K_y* (G(u) K_y u)]
stencil      K_x  {(-1/2, 0): -2, (1/2, 0): 2}
stencil      K_y  {(0, -1/2): -2, (0, 1/2): 2}
stability    norm decrease: proved for tau <= 0.03125 = 2/(L‖K‖²), L‖K‖² = 64
assumes      0 ≤ g ≤ 2 for g = a
assumes      ‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size
trained      nothing

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor as _is_wrapped

__all__ = ["Diffusion2d"]

CERTIFICATE = {
    "notion": "norm decrease",
    "status": "proved",
    "norm": "L²",
    "formula": "2/(L‖K‖²), L‖K‖² = 64",
    "assumptions": [
        "0 ≤ g ≤ 2 for g = a",
        "‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size",
    ],
    "notions": {
        "norm decrease": "proved",
        "nonexpansive": "proved",
        "energy decrease": "proved",
        "maximum principle": "proved",
        "von Neumann": "proved",
        "power bounded": "proved",
        "CFL": "unknown",
    },
    "tau": 0.001,
    "tau_max": 0.03125,
}


class Diffusion2d(nn.Module):
    """Diffusion2d: the ResNet that explicit Euler is for this PDE.

    forward: (B, 1, X, Y) -> (B, 1, X, Y), any batch and grid size.
    """

    steps = 3

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()

    def forward(self, u: Tensor, a: Tensor) -> Tensor:
        """u^0 to u^3."""
        self.check(u)
        if not isinstance(a, Tensor) or not a.is_floating_point():
            text = "a has type {}; give a tensor of floating point numbers"
            raise ValueError(text.format(getattr(a, "dtype", type(a))))
        if a.dim() != u.dim() or a.shape[1:] != u.shape[1:]:
            raise ValueError(f"a has shape {tuple(a.shape)}, u {tuple(u.shape)}")
        if not torch.compiler.is_compiling() and len(a) not in (1, len(u)):
            raise ValueError(f"a has a batch of {len(a)}, u of {len(u)}")
        if a.dtype != u.dtype:
            raise ValueError(f"a has type {a.dtype}, u {u.dtype}")
        traced = torch.compiler.is_compiling() or _is_wrapped(a)
        if not traced and not ((0 <= a) & (a <= 2)).all():
            raise ValueError("a leaves its declared bounds [0, 2]")
        a = self.extend_a(a)
        state = self.extend(u)
        for k in range(self.steps):
            state = self.step(state, k, a)
        return state[..., 1:-1, 1:-1]

    def step(self, state: Tensor, k: int, a: Tensor) -> Tensor:
        """One block: u − τ [K_x* (G(u) K_x u) + K_y* (G(u) K_y u)].

        `state` carries its ghost ring, and so does the result.
        """
        tau = 0.001
        u = state

        # u_x = K_x u ≈ ∂x u at the faces x+½
        u_x = (u[..., 1:, 1:-1] - u[..., :-1, 1:-1]) * 2

        # a_x = the mean of a at the faces x+½
        a_x = (a[..., 1:, 1:-1] + a[..., :-1, 1:-1]) / 2

        # flux_x = a_x·u_x
        flux_x = a_x * u_x

        # div_x = K_x* flux_x ≈ −∂x flux_x, the exact adjoint
        div_x = (flux_x[..., :-1, :] - flux_x[..., 1:, :]) * 2

        # u_y = K_y u ≈ ∂y u at the faces y+½
        u_y = (u[..., 1:-1, 1:] - u[..., 1:-1, :-1]) * 2

        # a_y = the mean of a at the faces y+½
        a_y = (a[..., 1:-1, 1:] + a[..., 1:-1, :-1]) / 2

        # flux_y = a_y·u_y
        flux_y = a_y * u_y

        # div_y = K_y* flux_y ≈ −∂y flux_y, the exact adjoint
        div_y = (flux_y[..., :-1] - flux_y[..., 1:]) * 2

        # u_new = u − div_x·τ − div_y·τ
        u_new = u[..., 1:-1, 1:-1] - tau * (div_x + div_y)

        return self.extend(u_new)

    def energy(self, u: Tensor, *, a: Tensor) -> Tensor:
        """The energy E of which f is minus the gradient: (B, …) to (B,)."""
        if not isinstance(a, Tensor) or not a.is_floating_point():
            text = "a has type {}; give a tensor of floating point numbers"
            raise ValueError(text.format(getattr(a, "dtype", type(a))))
        if a.dim() != u.dim() or a.shape[1:] != u.shape[1:]:
            raise ValueError(f"a has shape {tuple(a.shape)}, u {tuple(u.shape)}")
        if not torch.compiler.is_compiling() and len(a) not in (1, len(u)):
            raise ValueError(f"a has a batch of {len(a)}, u of {len(u)}")
        if a.dtype != u.dtype:
            raise ValueError(f"a has type {a.dtype}, u {u.dtype}")
        traced = torch.compiler.is_compiling() or _is_wrapped(a)
        if not traced and not ((0 <= a) & (a <= 2)).all():
            raise ValueError("a leaves its declared bounds [0, 2]")
        a = self.extend_a(a)
        u = self.extend(u)

        # u_x = K_x u ≈ ∂x u at the faces x+½
        u_x = (u[..., 1:, 1:-1] - u[..., :-1, 1:-1]) * 2

        # a_x = the mean of a at the faces x+½
        a_x = (a[..., 1:, 1:-1] + a[..., :-1, 1:-1]) / 2

        # energy = a_x·u_x²/2
        energy = 0.5 * a_x * u_x**2

        # u_y = K_y u ≈ ∂y u at the faces y+½
        u_y = (u[..., :-1, 2:] - u[..., :-1, 1:-1]) * 2

        # a_y = the mean of a at the faces y+½
        a_y = (a[..., :-1, 2:] + a[..., :-1, 1:-1]) / 2

        # energy_2 = a_y·u_y²/2
        energy_2 = 0.5 * a_y * u_y**2

        # energy_sum = Σ energy
        high = energy[..., -1:, :] / 2
        energy_sum = torch.cat((energy[..., :-1, :], high), dim=-2)
        energy_sum = energy_sum.sum((-2, -1), keepdim=True)

        # energy_2_sum = Σ energy_2
        low = energy_2[..., :1, :] / 2
        energy_2_sum = torch.cat((low, energy_2[..., 1:, :]), dim=-2)
        energy_2_sum = energy_2_sum.sum((-2, -1), keepdim=True)

        # E = energy_sum/4 + energy_2_sum/4
        E = 0.25 * (energy_sum + energy_2_sum)

        return E.flatten()

    def extend(self, u: Tensor) -> Tensor:
        """The ghost ring: x: Dirichlet(0) / no flux; y: periodic."""
        low_wall = torch.zeros_like(u[..., :1, :])
        high = u[..., -1:, :]
        u = torch.cat((low_wall, u, high), dim=-2)
        low = u[..., -1:]
        high = u[..., :1]
        u = torch.cat((low, u, high), dim=-1)
        return u

    def extend_a(self, a: Tensor) -> Tensor:
        """The ghost ring of a."""
        low_wall = a[..., :1, :]
        high = a[..., -1:, :]
        a = torch.cat((low_wall, a, high), dim=-2)
        low = a[..., -1:]
        high = a[..., :1]
        a = torch.cat((low, a, high), dim=-1)
        return a

    def check(self, u: Tensor) -> None:
        """Refuse values and shapes the network cannot mean."""
        if not isinstance(u, Tensor) or not u.is_floating_point():
            given = getattr(u, "dtype", type(u).__name__)
            raise ValueError(f"expected floating point numbers, got {given}")
        if u.dim() != 4 or u.shape[1] != 1:
            raise ValueError(f"expected shape (B, 1, X, Y), got {tuple(u.shape)}")
        if not torch.compiler.is_compiling():
            for size, least in zip(u.shape[2:], (1, 1)):
                if size < least:
                    raise ValueError(f"an axis has {size} nodes, fewer than {least}")

    @torch.no_grad()
    def certificate(self) -> dict:
        """CERTIFICATE for the weights as they are now."""
        tau = [0.001] * self.steps
        tau_max = [0.03125] * self.steps
        return {**CERTIFICATE, "tau": tau, "tau_max": tau_max}
