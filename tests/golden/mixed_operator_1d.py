"""PeronaMalik1d: the ResNet that explicit Euler is for this PDE.

PDE          ∂t v = -∂xx[(2·∂xx v + 2·∂x v·α)/(2·(1 + (∂x v·α + ∂xx v)²/λ²))] + ∂x[(∂x v·α + ∂xx v)·α/(1 + (∂x v·α + ∂xx v)²/λ²)]
diffusivity  g = 1/(1 + (∂xx + α·∂x v)²/λ²)
boundary     no flux
grid         h = 0.5, vertex-centred
space        finite differences of order 2
scheme       u^{k+1} = u^k + τ f(u^k), 3 steps
block        u − τ [K_D1* Φ(K_D1 u)]
stencil      K_D1  {-1: 4 - α, 0: -8, 1: 4 + α}
stability    norm decrease: proved for tau <= 0.00708617 = 2/(L‖K‖²), L‖K‖² = 282.24
assumes      0 ≤ g ≤ 1 for g = 1/(1 + (∂xx + α·∂x v)²/λ²)
assumes      ‖K‖² is the supremum of |k̂|² over all frequencies, for every grid size
trained      nothing

Written by pdeloom 0.1.0; needs torch alone. Yours to read, edit and keep.
"""

import torch
from torch import Tensor, nn

__all__ = ["PeronaMalik1d"]

CERTIFICATE = {
    "notion": "norm decrease",
    "status": "proved",
    "norm": "L²",
    "formula": "2/(L‖K‖²), L‖K‖² = 282.24",
    "assumptions": [
        "0 ≤ g ≤ 1 for g = 1/(1 + (∂xx + α·∂x v)²/λ²)",
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
    "tau_max": 0.007086167800453513,
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

    def forward(self, u: Tensor) -> Tensor:
        """u^0 to u^3."""
        self.check(u)
        state = self.extend(u)
        for k in range(self.steps):
            state = self.step(state, k)
        return state[..., 1:-1]

    def step(self, state: Tensor, k: int) -> Tensor:
        """One block: u − τ [K_D1* Φ(K_D1 u)].

        `state` carries its ghost ring, and so does the result.
        """
        alpha = 0.4
        lam = 0.3
        tau = 0.001
        v = state

        # v_D1 = K_D1 v ≈ (∂xx + α·∂x) v at the nodes
        v_D1 = -(alpha - 4) * v[..., :-2] - 8 * v[..., 1:-1] + (4 + alpha) * v[..., 2:]

        # flux_D1 = v_D1/(1 + v_D1²/λ²)
        flux_D1 = lam**2 * v_D1 / (lam**2 + v_D1**2)

        # flux_D1 continued evenly beyond the boundary along x
        low = flux_D1[..., :1]
        high = flux_D1[..., -1:]
        flux_D1_even = torch.cat((low, flux_D1, high), dim=-1)

        # div_D1 = K_D1* flux_D1_even ≈ ∂xx flux_D1_even, the exact adjoint
        div_D1 = (
            -2 * flux_D1_even[..., 1:-1]
            + flux_D1_even[..., :-2]
            + flux_D1_even[..., 2:]
        )
        div_D1 = div_D1 * 4

        # flux_D1 continued oddly beyond the boundary along x
        low = -flux_D1[..., :1]
        high = -flux_D1[..., -1:]
        flux_D1_odd = torch.cat((low, flux_D1, high), dim=-1)

        # div_D1_2 = K_D1* flux_D1_odd ≈ −α·∂x flux_D1_odd, the exact adjoint
        div_D1_2 = alpha * (flux_D1_odd[..., :-2] - flux_D1_odd[..., 2:])

        # u_new = v − div_D1·τ − div_D1_2·τ
        u_new = v[..., 1:-1] - tau * (div_D1 + div_D1_2)

        return self.extend(u_new)

    def energy(self, u: Tensor) -> Tensor:
        """The energy E of which f is minus the gradient: (B, …) to (B,)."""
        alpha = 0.4
        lam = 0.3
        v = self.extend(u)

        # v_D1 = K_D1 v ≈ (∂xx + α·∂x) v at the nodes
        v_D1 = -(alpha - 4) * v[..., :-2] - 8 * v[..., 1:-1] + (4 + alpha) * v[..., 2:]

        # energy_D1 = λ²·log(1 + v_D1²/λ²)/2
        energy_D1 = 0.5 * lam**2 * torch.log(1 + (v_D1 / lam) ** 2)

        # energy_D1_sum = Σ energy_D1
        energy_D1_sum = energy_D1.sum((-1,), keepdim=True)

        # E = energy_D1_sum/2
        E = 0.5 * energy_D1_sum

        return E.flatten()

    def extend(self, v: Tensor) -> Tensor:
        """The ghost ring: no flux."""
        if not torch.compiler.is_compiling():  # one pass, but it would not fuse
            return nn.functional.pad(v, (1, 1), mode="replicate")
        low = v[..., :1]
        high = v[..., -1:]
        v = torch.cat((low, v, high), dim=-1)
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
        tau_max = [0.007086167800453513] * self.steps
        return {**CERTIFICATE, "tau": tau, "tau_max": tau_max}
