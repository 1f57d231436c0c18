"""Heat1d: the ResNet that explicit Euler is for this PDE.

PDE          ∂t v = ∂xx v
boundary     Dirichlet(0)
grid         h = 0.5, vertex-centred
space        finite differences of order 2
scheme       u^{k+1} = u^k + τ f(u^k), 3 steps
block        u − τ [K_x* K_x u]
stencil      K_x  {-1/2: -2, 1/2: 2}
stability    norm decrease: proved for tau <= 0.125 = 2/(L‖K‖²), L‖K‖² = 16
assumes      1 ≤ g ≤ 1 for g = 1
assumes      ‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size
trained      nothing

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

import torch
from torch import Tensor, nn

__all__ = ["Heat1d"]

CERTIFICATE = {
    "notion": "norm decrease",
    "status": "proved",
    "norm": "L²",
    "formula": "2/(L‖K‖²), L‖K‖² = 16",
    "assumptions": [
        "1 ≤ g ≤ 1 for g = 1",
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
    "tau_max": 0.125,
}


class Heat1d(nn.Module):
    """Heat1d: the ResNet that explicit Euler is for this PDE.

    forward: (B, 1, X) -> (B, 1, X), any batch and grid size.
    """

    steps = 3

    def __init__(
        self,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()

    def forward(self, u: Tensor) -> Tensor:
        """u^0 to u^3."""
        self.check(u)
        state = self.extend(u)
        for k in range(self.steps):
            state = self.step(state, k)
        return state[..., 1:-1]

    def step(self, state: Tensor, k: int) -> Tensor:
        """One block: u − τ [K_x* K_x u].

        `state` carries its ghost ring, and so does the result.
        """
        tau = 0.001
        v = state

        # v_x = K_x v ≈ ∂x v at the faces x+½
        v_x = (v[..., 1:] - v[..., :-1]) * 2

        # div_x = K_x* v_x ≈ −∂x v_x, the exact adjoint
        div_x = (v_x[..., :-1] - v_x[..., 1:]) * 2

        # u_new = v − div_x·τ
        u_new = v[..., 1:-1] - tau * div_x

        return self.extend(u_new)

    def energy(self, u: Tensor) -> Tensor:
        """The energy E of which f is minus the gradient: (B, …) to (B,)."""
        v = self.extend(u)

        # v_x = K_x v ≈ ∂x v at the faces x+½
        v_x = (v[..., 1:] - v[..., :-1]) * 2

        # energy_x = v_x²/2
        energy_x = 0.5 * v_x**2

        # energy_x_sum = Σ energy_x
        energy_x_sum = energy_x.sum((-1,), keepdim=True)

        # E = energy_x_sum/2
        E = 0.5 * energy_x_sum

        return E.flatten()

    def extend(self, v: Tensor) -> Tensor:
        """The ghost ring: Dirichlet(0)."""
        low_wall = torch.zeros_like(v[..., :1])
        high_wall = torch.zeros_like(v[..., -1:])
        v = torch.cat((low_wall, v, high_wall), dim=-1)
        return v

    def check(self, u: Tensor) -> None:
        """Refuse values and shapes the network cannot mean."""
        if not isinstance(u, Tensor) or not u.is_floating_point():
            given = getattr(u, "dtype", type(u).__name__)
            raise ValueError(f"expected floating point numbers, got {given}")
        if u.dim() != 3 or u.shape[1] != 1:
            raise ValueError(f"expected shape (B, 1, X), got {tuple(u.shape)}")
        if not torch.compiler.is_compiling():
            for size, least in zip(u.shape[2:], (1,)):
                if size < least:
                    raise ValueError(f"an axis has {size} nodes, fewer than {least}")

    @torch.no_grad()
    def certificate(self) -> dict:
        """CERTIFICATE for the weights as they are now."""
        tau = [0.001] * self.steps
        tau_max = [0.125] * self.steps
        return {**CERTIFICATE, "tau": tau, "tau_max": tau_max}
