r"""From what distribution a parameter is drawn: kind, mean, standard deviation, and who says so."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from kadanoff.errors import UsageError

__all__ = ["KINDS", "Kind", "Law"]

Kind = Literal["normal", "uniform", "trunc_normal", "orthogonal", "constant", "empirical"]
KINDS: tuple[Kind, ...] = (
    "normal",
    "uniform",
    "trunc_normal",
    "orthogonal",
    "constant",
    "empirical",
)


@dataclass(frozen=True)
class Law:
    """The law of the entries of one parameter at initialisation.

    Entries are independent and identically distributed, save for ``"orthogonal"`` (rows or
    columns orthonormal, times a scale) and ``"constant"``.

    Parameters
    ----------
    mean, std : float
        Of one entry. ``std`` is what remains after a truncation. 0 for a constant.
    kind : str
        ``"normal"``, ``"uniform"`` (on mean ± √3 std), ``"trunc_normal"``, ``"orthogonal"``,
        ``"constant"``, or ``"empirical"`` (entries drawn from the numbers in ``value``).
    std_error : float
        Standard error of ``std``: 0 where an initialiser states it, std/√(2m) where it was
        measured on m entries.
    source : str
        Who says so, in words for the user: "default of nn.Linear", "40 instances", ...
    bound : float
        Of ``"trunc_normal"``: where the normal law is cut, in units of its own standard
        deviation before the cut, on both sides of the mean.
    value : Tensor, optional
        Of ``"constant"``: the values themselves (else ``mean`` everywhere). Of ``"empirical"``:
        a sample of entries.
    zero_rows : tuple of int
        Rows that are zero whatever the law says (the padding index of an embedding).
    """

    mean: float = 0.0
    std: float = 0.0
    kind: Kind = "normal"
    std_error: float = 0.0
    source: str = ""
    bound: float = math.inf
    value: Tensor | None = field(default=None, compare=False, repr=False)
    zero_rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"No law is called {self.kind!r}.", f"There are {', '.join(KINDS)}.")
        for name in ("mean", "std", "std_error"):
            number = getattr(self, name)
            if not math.isfinite(number) or (name != "mean" and number < 0):
                raise UsageError(f"The {name} of a law must be finite and >= 0, got {number!r}.")
        if self.kind == "trunc_normal" and not self.bound > 0:
            raise UsageError(f"bound must be positive, got {self.bound!r}.")
        if self.kind == "empirical" and (self.value is None or self.value.numel() < 2):
            raise UsageError("An empirical law needs a sample of at least two entries.")

    @classmethod
    def constant(cls, value: Tensor | float, source: str = "") -> Law:
        """Entries that are the same in every network."""
        if isinstance(value, Tensor):
            return cls(0.0, 0.0, "constant", source=source, value=value.detach())
        return cls(float(value), 0.0, "constant", source=source)

    @classmethod
    def truncated(
        cls, mean: float, std: float, low: float, high: float, source: str = ""
    ) -> Law | None:
        """A normal law of mean and std cut at low and high; None where the cut is lopsided.

        Parameters
        ----------
        mean, std : float
            Of the normal law before the cut.
        low, high : float
            Where it is cut.
        source : str
            Who says so.
        """
        below, above = (mean - low) / std, (high - mean) / std
        bound = min(below, above)
        if bound > 8:  # nothing is ever cut
            return cls(mean, std, "normal", source=source)
        if bound <= 0 or (abs(below - above) > 1e-6 * bound and bound < 5):
            return None
        left = std * math.sqrt(_truncated_moment(2, bound))
        return cls(mean, left, "trunc_normal", source=source, bound=bound)

    @property
    def reach(self) -> float:
        """How far from the mean an entry can be; inf where there is no limit."""
        if self.kind == "uniform":
            return math.sqrt(3) * self.std
        if self.kind == "trunc_normal" and math.isfinite(self.bound):
            return self.bound * self.std / math.sqrt(_truncated_moment(2, self.bound))
        return 0.0 if self.kind == "constant" else math.inf

    @property
    def random(self) -> bool:
        """Whether networks differ in this parameter."""
        return self.kind == "empirical" or (self.kind != "constant" and self.std > 0)

    @property
    def gaussian(self) -> bool:
        """Whether a linear map may answer by its conditional law: centred, rows alike.

        Uniform and truncated entries count: for a fan-in of more than a few their sums are
        Gaussian at the order that the mean and the spread ask for.
        """
        return (
            self.kind in ("normal", "uniform", "trunc_normal") and self.mean == 0 and self.std > 0
        )

    @property
    def conditional(self) -> bool:
        """Whether a linear map may answer by its law: a normal one, or an orthogonal matrix's."""
        return self.gaussian or (self.kind == "orthogonal" and self.mean == 0 and self.std > 0)

    @property
    def excess(self) -> float:
        """Excess kurtosis κ₄ of one entry: 0 for a normal law, −1.2 for a uniform one."""
        if self.kind == "uniform":
            return -1.2
        if self.kind == "trunc_normal" and math.isfinite(self.bound):
            return _truncated_moment(4, self.bound) / _truncated_moment(2, self.bound) ** 2 - 3
        if self.kind == "empirical" and self.value is not None:
            deviation = self.value.double() - self.value.double().mean()
            second = deviation.square().mean()
            return float(deviation.pow(4).mean() / second.square().clamp_min(1e-300)) - 3
        return 0.0

    def scaled(self, factor: float) -> Law:
        """The law of ``factor`` times the parameter."""
        return replace(
            self,
            mean=factor * self.mean,
            std=abs(factor) * self.std,
            std_error=abs(factor) * self.std_error,
            value=None if self.value is None else factor * self.value,
        )

    def sample(
        self,
        shape: tuple[int, ...] | torch.Size,
        generator: torch.Generator,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """One parameter of this law.

        Parameters
        ----------
        shape : tuple of int
        generator : torch.Generator
            On ``device``; the global random state is not touched.
        device, dtype
            Default: the generator's device, torch's default type.

        Returns
        -------
        Tensor
            Of that shape; no gradient.

        Raises
        ------
        UsageError
            The constant values have another shape.
        """
        device = generator.device if device is None else torch.device(device)
        dtype = torch.get_default_dtype() if dtype is None else dtype
        found = self._entries(tuple(shape), generator, device, dtype)
        if self.zero_rows:
            found[list(self.zero_rows)] = 0
        return found

    def _entries(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Tensor:
        out = torch.empty(shape, device=device, dtype=dtype)
        if self.kind == "constant":
            return out.fill_(self.mean) if self.value is None else self._constant(out)
        if self.kind == "empirical":
            assert self.value is not None
            pool = self.value.reshape(-1).to(device, dtype)
            picks = torch.randint(len(pool), shape, generator=generator, device=device)
            return pool[picks]
        if self.std == 0:
            return out.fill_(self.mean)
        if self.kind == "uniform":
            reach = math.sqrt(3) * self.std
            return out.uniform_(self.mean - reach, self.mean + reach, generator=generator)
        if self.kind == "orthogonal":
            return self._orthogonal(out, generator)
        if self.kind == "trunc_normal" and math.isfinite(self.bound):
            # inverse transform: Φ⁻¹ of a uniform number between Φ(−bound) and Φ(bound)
            reach = math.erf(self.bound / math.sqrt(2))
            unit = torch.erfinv(out.uniform_(-reach, reach, generator=generator)) * math.sqrt(2)
            unit = unit.clamp(-self.bound, self.bound)
            return unit * (self.std / math.sqrt(_truncated_moment(2, self.bound))) + self.mean
        return out.normal_(self.mean, self.std, generator=generator)

    def _constant(self, out: Tensor) -> Tensor:
        assert self.value is not None
        if self.value.shape != out.shape:
            raise UsageError(
                f"The law holds values of shape {tuple(self.value.shape)}, the parameter has "
                f"{tuple(out.shape)}."
            )
        return out.copy_(self.value)

    def _orthogonal(self, out: Tensor, generator: torch.Generator) -> Tensor:
        """Orthonormal rows or columns, as torch.nn.init.orthogonal_, of this mean square."""
        rows = out.shape[0]
        columns = out.numel() // rows
        tall = out.new_empty(max(rows, columns), min(rows, columns), dtype=torch.float64)
        q, r = torch.linalg.qr(tall.normal_(generator=generator))
        q = q * r.diagonal().sign()
        q = q if rows >= columns else q.mT
        # an orthonormal frame of k vectors in m dimensions has mean square 1/m an entry
        return out.copy_((q * (self.std * math.sqrt(max(rows, columns)))).reshape(out.shape))


def _truncated_moment(order: int, bound: float) -> float:
    """E[x²] or E[x⁴] of a standard normal law cut at ± bound."""
    density = math.exp(-bound * bound / 2) / math.sqrt(2 * math.pi)
    inside = math.erf(bound / math.sqrt(2))
    second = 1 - 2 * bound * density / inside
    return second if order == 2 else 3 * second - 2 * bound**3 * density / inside
