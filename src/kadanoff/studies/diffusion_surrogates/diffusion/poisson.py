"""The screened Poisson equation (γ − D∇²) u = α on a rectangular lattice, solved exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kadanoff.errors import DataError, UsageError
from kadanoff.studies.diffusion_surrogates.diffusion.transforms import SecondDifference

__all__ = ["ScreenedPoisson2D", "laplacian"]

Number = float | Tensor
# below this side four matrix products beat two sine transforms on a CPU (measured)
_DENSE = 128


class ScreenedPoisson2D(nn.Module):
    r"""Batched, differentiable direct solver of the stationary reaction–diffusion equation.

    .. math:: (\gamma - D\nabla^2)\, u = \alpha

    with the five-point Laplacian of spacing 1. The operator is diagonal in the product of two
    one-dimensional eigenbases: u = S [(Sᵀ α S') ∘ 1/(D(λ_k + λ'_l) + γ)] S'ᵀ ("fast
    diagonalisation").

    Parameters
    ----------
    shape : int or (int, int)
        Lattice (H, W).
    D, gamma : float or Tensor
        Diffusion constant and decay rate: numbers, or tensors that broadcast against the batch
        axes of the source; gradients flow to them.
    walls : {"dirichlet", "neumann", "periodic"}, or a pair of them
        One kind for the first axis, one for the second. Dirichlet: u = 0 on the nodes just
        outside. Neumann: no flux through the walls.
    method : {"auto", "dense", "fast"}
        Matrix products, or sine, cosine and Fourier transforms; the default picks by size.

    Raises
    ------
    UsageError
        The operator has no inverse (γ = 0 without an absorbing wall), or an unknown name.

    Notes
    -----
    The error is a few times the machine precision. Setting: Toledo-Marín et al. (2021), whose
    lattice is 100 × 100 with D = 1, γ = 1/400 and absorbing walls.

    Examples
    --------
    >>> solver = ScreenedPoisson2D(100, D=1.0, gamma=1 / 400)
    >>> source = torch.zeros(100, 100, dtype=torch.float64)
    >>> source[50, 50] = 1.0
    >>> bool(solver.residual(solver(source), source).abs().max() < 1e-12)
    True
    """

    def __init__(
        self,
        shape: int | tuple[int, int],
        D: Number = 1.0,
        gamma: Number = 1 / 400,
        walls: str | Sequence[str] = "dirichlet",
        method: str = "auto",
    ) -> None:
        super().__init__()
        self.spectrum: Tensor
        self.shape = (shape, shape) if isinstance(shape, int) else (int(shape[0]), int(shape[1]))
        self.walls = (walls, walls) if isinstance(walls, str) else tuple(walls)
        if len(self.walls) != 2:
            raise UsageError(f"Two axes have two kinds of walls, got {walls!r}.")
        if method not in ("auto", "dense", "fast"):
            raise UsageError(f"Unknown method {method!r}.", "Choose auto, dense or fast.")
        self.method = method
        if method == "auto":
            self.method = "dense" if max(self.shape) <= _DENSE else "fast"
        self.lines = tuple(SecondDifference(m, w) for m, w in zip(self.shape, self.walls))
        self.D, self.gamma = D, gamma
        if bool((torch.as_tensor(D) <= 0).any()) or bool((torch.as_tensor(gamma) < 0).any()):
            raise UsageError(f"D = {D} and gamma = {gamma} must be positive (gamma may be 0).")
        a, b = (line.eigenvalues() for line in self.lines)
        self.register_buffer("spectrum", a[:, None] + b[None, :])
        if self.method == "dense":
            self.register_buffer("left", self.lines[0].basis())
            self.register_buffer("right", self.lines[1].basis())
        if float(self.smallest_eigenvalue().detach().min()) <= 1e-14:
            raise UsageError(
                "Without decay (gamma = 0) and without an absorbing wall the field grows for ever.",
                "Set gamma > 0, or walls='dirichlet' on one axis.",
            )
        self._cast: dict[tuple[torch.dtype, torch.device], tuple[Tensor, ...]] = {}

    def forward(self, alpha: Tensor) -> Tensor:
        """The field u of a source α of shape (..., H, W); float32 or float64."""
        self._check(alpha)
        return self.filter(alpha, 1 / self._symbol(alpha))

    def filter(self, x: Tensor, multiplier: Tensor) -> Tensor:
        """Multiply x by a function of the operator, given by its values on the spectrum."""
        if self.method == "dense":
            left, right, _ = self._matrices(x)
            return left @ ((left.mT @ x @ right) * multiplier) @ right.mT
        a, b = self.lines
        if a.wall == "periodic" and b.wall != "periodic":
            # the complex transform goes last
            c = a.forward(b.forward(x).mT).mT * multiplier
            return b.inverse(a.inverse(c.mT).mT.real)
        c = b.forward(a.forward(x.mT).mT) if a.wall != "periodic" else torch.fft.fft2(x)
        if a.wall == "periodic":
            return torch.fft.ifft2(c * multiplier).real
        return a.inverse(_real(b.inverse(c * multiplier)).mT).mT

    def apply(self, u: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(γ − D∇²) u by the five-point stencil, for fields of shape (..., H, W)."""
        return _field(self.gamma, u) * u - _field(self.D, u) * laplacian(u, self.walls)

    def residual(self, u: Tensor, alpha: Tensor) -> Tensor:
        """α − (γ − D∇²) u."""
        return alpha - self.apply(u)

    def smallest_eigenvalue(self) -> Tensor:
        """Smallest eigenvalue of γ − D∇²; ‖A⁻¹‖₂ is its inverse."""
        low = sum(float(line.eigenvalues().min()) for line in self.lines)
        return torch.as_tensor(self.gamma, dtype=torch.float64) + low * torch.as_tensor(
            self.D, dtype=torch.float64
        )

    def inverse_norm(self) -> float:
        """‖A⁻¹‖_∞: the largest field that a source of size one can make anywhere.

        A⁻¹ has no negative entry, so that this is max(A⁻¹ 1).
        """
        with torch.no_grad():
            one = torch.ones_like(self.spectrum)
            return float(self(one).max())

    def evolve(self, u: Tensor, alpha: Tensor, t: float) -> Tensor:
        """The field at time t of ∂u/∂t = D∇²u − γu + α from u at time 0, exact for any t."""
        decay = torch.exp(-t * self._symbol(u))
        return self.filter(u, decay) + self.filter(alpha, (1 - decay) / self._symbol(u))

    def _symbol(self, x: Tensor) -> Tensor:
        spectrum = self._matrices(x)[-1]
        return _field(self.D, x) * spectrum + _field(self.gamma, x)

    def _matrices(self, x: Tensor) -> tuple[Tensor, ...]:
        key = (x.dtype, x.device)
        if key not in self._cast:
            names = ("left", "right", "spectrum") if self.method == "dense" else ("spectrum",)
            self._cast[key] = tuple(getattr(self, n).to(x) for n in names)
        return self._cast[key]

    def _check(self, alpha: Tensor) -> None:
        if tuple(alpha.shape[-2:]) != self.shape or not alpha.is_floating_point():
            raise DataError(
                f"The source has shape {tuple(alpha.shape)} and dtype {alpha.dtype}; this solver "
                f"takes floating-point fields of shape (..., {self.shape[0]}, {self.shape[1]}).",
            )


def _real(x: Tensor) -> Tensor:
    return x.real if x.is_complex() else x


def _field(value: Number, like: Tensor) -> Tensor:
    """A number, or one number a field of the batch, with two axes for the lattice."""
    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return tensor[..., None, None] if tensor.ndim else tensor


def laplacian(u: Tensor, walls: Sequence[str] = ("dirichlet", "dirichlet")) -> Tensor:
    """Five-point ∇²u of fields (..., H, W) with the given walls."""
    out = -4 * u
    for axis, wall in zip((-2, -1), walls):
        M = u.shape[axis]
        first, last = u.narrow(axis, 0, 1), u.narrow(axis, M - 1, 1)
        if wall == "periodic":
            first, last = last, first
        elif wall == "dirichlet":
            first = last = torch.zeros_like(first)
        wide = torch.cat((first, u, last), dim=axis)
        out = out + wide.narrow(axis, 0, M) + wide.narrow(axis, 2, M)
    return out
