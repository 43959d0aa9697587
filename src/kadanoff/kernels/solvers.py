"""Solving (K + λ 1) α = y: directly while it fits, by preconditioned iterations beyond."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.devices import chosen, free_memory
from kadanoff.errors import AnalysisError, ConvergenceError, DataError, UsageError
from kadanoff.kernels.preconditioned import eigenpro
from kadanoff.kernels.storage import stream

# a matrix in memory, or mapped from a file
Stored = Tensor | np.ndarray

__all__ = ["Solution", "solve"]

METHODS = ("auto", "cholesky", "pcg", "eigenpro")
# elements of a block of rows
_BLOCK = 1 << 25
_CORNER = 256


@dataclass(frozen=True)
class Solution:
    """α with (K + λ 1) α = y.

    Attributes
    ----------
    alpha : Tensor, float64, shape of y
    method : {"cholesky", "pcg", "eigenpro"}
    residual : float
        |y − (K + λ) α| / |y|, the worst column.
    iterations : int
        Refinement steps, CG iterations or epochs.
    """

    alpha: Tensor
    method: str
    residual: float
    iterations: int


def solve(
    K: Any,
    y: Any,
    regulariser: float = 0.0,
    method: str = "auto",
    *,
    X: Any = None,
    get: str = "ntk",
    memory: int | None = None,
    path: str | os.PathLike[str] | None = None,
    tolerance: float = 1e-8,
    rank: int = 500,
    iterations: int = 1000,
    seed: int = 0,
    device: Any = None,
    progress: Callable[..., None] | None = None,
) -> Solution:
    """Kernel regression weights α = (K + λ 1)⁻¹ y.

    Parameters
    ----------
    K : Tensor, array or memory map (N, N), or a Kernel
        A Kernel needs ``X``; the matrix is computed, streamed to disk, or recomputed in
        mini-batches, whichever fits.
    y : array (N,) or (N, outputs)
    regulariser : float
        λ >= 0, added to the diagonal.
    method : {"auto", "cholesky", "pcg", "eigenpro"}
        "cholesky": float32 factor with refinement in float64 (float64 factor where that is not
        enough). "pcg": conjugate gradients on the stored matrix, Nyström preconditioner of rank
        ``rank``. "eigenpro": preconditioned gradient descent in mini-batches, entries recomputed
        (needs a Kernel). "auto" takes the first that fits into ``memory``.
    X, get
        Inputs and kernel ("nngp" or "ntk") where ``K`` is a Kernel.
    memory : int
        Bytes that may be used; default: three quarters of what is free.
    path : path
        File (or where to put a temporary one) for a matrix that does not fit into memory.
    tolerance, iterations
        Of the iterative methods: relative residual and number of steps (epochs for "eigenpro").
    rank, seed
        Of their preconditioner: its rank, and the seed of the points it is built from.
    device : str or torch.device, optional
        Where to factorise, or to hold vectors while blocks of K are brought there; α stays there.
        Default: where K is (for a Kernel: where it computes).
    progress : callable, optional
        ``progress(done, total, residual=...)``.

    Returns
    -------
    Solution

    Raises
    ------
    DataError
        N = 0, wrong shapes or dtype, NaN.
    AnalysisError
        The matrix is singular (the message names duplicate points with conflicting labels), or
        nothing fits (the message states the bytes).
    ConvergenceError
        The iterations did not reach the tolerance.
    """
    if method not in METHODS:
        raise UsageError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    if not np.isfinite(regulariser) or regulariser < 0:
        raise UsageError(f"regulariser must be finite and >= 0, got {regulariser}.")
    function = K if hasattr(K, "prepare") else None
    if function is not None:
        function, X = _of_inputs(function, X, device)
        place, N, size = X.device, len(X), X.element_size()
    else:
        K = _matrix(K)
        N, size = len(K), K.itemsize if isinstance(K, np.ndarray) else K.element_size()
        place = chosen(device) or (K.device if isinstance(K, Tensor) else torch.device("cpu"))
    targets = _targets(y, N).to(place)
    budget = memory if memory is not None else _free_memory(place) * 3 // 4
    if method == "auto":
        method = _choose(function, K, N, size, budget, path)
    if method == "eigenpro":
        if function is None:
            raise UsageError("method='eigenpro' recomputes entries.", "Pass a Kernel and X=.")
        prepared = function.prepare(X, get)
        alpha, residual, epochs = eigenpro(
            prepared, targets, regulariser, rank, iterations, tolerance, seed, progress
        )
        return Solution(alpha, "eigenpro", residual, epochs)
    with tempfile.TemporaryDirectory(dir=_folder(path)) as scratch:
        if function is not None:
            K = _gram(function, X, get, N * N * size <= budget // 2, path, scratch)
        if method == "cholesky":
            return _cholesky(K, targets, regulariser)
        return _pcg(K, targets, regulariser, tolerance, rank, iterations, seed, progress)


def _of_inputs(function: Any, X: Any, device: Any) -> tuple[Any, Tensor]:
    """A Kernel on the device asked for, and its inputs there."""
    if X is None:
        raise UsageError("A Kernel was passed without inputs.", "Pass X= as well.")
    if device is not None:
        function = copy.copy(function)
        function.device = chosen(device)
    return function, function.check(X)


def _gram(function: Any, X: Tensor, get: str, fits: bool, path: Any, scratch: str) -> Any:
    """The matrix in memory, or streamed to a file of the user's or a temporary one."""
    if fits:
        return function(X, get=get)
    target = Path(scratch) / "gram.npy"
    if path is not None and not Path(path).is_dir():
        target = Path(path)
    return stream(function, X, target, get=get)


def _folder(path: Path | str | os.PathLike[str] | None) -> str | None:
    return None if path is None else str(path if Path(path).is_dir() else Path(path).parent)


def _choose(function: Any, K: Any, N: int, size: int, budget: int, path: Any) -> str:
    # the matrix in memory, and its float32 factor
    direct = N * N * (4 + (size if function is not None or isinstance(K, Tensor) else 0))
    if direct <= budget and N <= 20_000:
        return "cholesky"
    if function is None:
        return "pcg"
    stored = N * N * size
    free = shutil.disk_usage(_folder(path) or tempfile.gettempdir()).free
    if stored <= max(budget // 2, free):
        return "pcg"
    if torch.cuda.is_available() or N <= 200_000:
        return "eigenpro"
    raise AnalysisError(
        f"The matrix of {N:,} inputs takes {stored:,} bytes; memory has {budget:,} and the disk "
        f"{free:,} free, and recomputing it for every epoch is out of reach without a GPU.",
        "Use fewer points, a larger disk (path=), or method='eigenpro' explicitly.",
    )


def _free_memory(place: torch.device) -> int:
    if place.type == "cuda":
        return torch.cuda.mem_get_info(place)[0]
    return free_memory() or 8 * 1024**3


def _matrix(K: Any) -> Stored:
    if not isinstance(K, (np.ndarray, Tensor)):
        K = np.asarray(K)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or K.shape[0] == 0:
        raise DataError(
            f"K has shape {tuple(K.shape)}; a square matrix with N >= 1 is wanted.",
            "Pass kernel(arch)(X) of the training inputs alone.",
        )
    if str(K.dtype).split(".")[-1] not in ("float32", "float64"):
        raise DataError(f"K has dtype {K.dtype}; float32 or float64 is wanted.")
    K = K.detach() if isinstance(K, Tensor) else K
    # a corner is enough to know another kind of matrix by
    corner = K[:_CORNER, :_CORNER]
    corner = (corner if isinstance(corner, Tensor) else torch.from_numpy(np.array(corner))).cpu()
    scale = float(corner.abs().max())
    if float((corner - corner.T).abs().max()) > 1e-4 * scale:
        raise DataError(
            f"K is not symmetric: its first {len(corner)} rows and columns differ by up to "
            f"{float((corner - corner.T).abs().max()):.3g}.",
            "Pass kernel(arch)(X) of the training inputs alone.",
        )
    if float(corner.diagonal().min()) < 0:
        raise DataError(
            f"K has a diagonal entry of {float(corner.diagonal().min()):.3g}: it is no kernel.",
            "Pass a positive semi-definite matrix.",
        )
    return K


def _targets(y: Any, N: int) -> Tensor:
    try:
        y = torch.as_tensor(y).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"y cannot be made a tensor: {error}.") from None
    if y.is_complex() or y.dtype == torch.bool or len(y.shape) not in (1, 2) or len(y) != N:
        raise DataError(
            f"y has shape {tuple(y.shape)} and dtype {y.dtype} for {N} points.",
            "Pass real targets of shape (N,) or (N, outputs).",
        )
    y = y.to("cpu", torch.float64)
    if not bool(torch.isfinite(y).all()):
        raise DataError("y holds NaN or infinite values.", "Remove those points first.")
    return y


def _starts(K: Stored) -> tuple[range, int]:
    """First rows of blocks that cover K, and the height of a block."""
    height = max(64, min(2048, _BLOCK // len(K)))
    return range(0, len(K), height), height


def _rows(K: Stored, i: int, height: int, place: torch.device) -> Tensor:
    """A block of rows; on the CPU, those of an array or a memory map are shared, not copied."""
    part = K[i : i + height]
    if isinstance(part, Tensor):
        return part.to(place)
    with warnings.catch_warnings():
        # nothing writes to it
        warnings.filterwarnings("ignore", message=".*not writable.*")
        return torch.from_numpy(np.asarray(part)).to(place)


def _times(K: Stored, v: Tensor) -> Tensor:
    """K v, in the precision of v, a block of rows at a time.

    As (vᵀ Kᵀ)ᵀ, which for a few columns is two to five times as fast on a CPU.
    """
    starts, height = _starts(K)
    few = v.mT.contiguous()
    return torch.cat([few @ _rows(K, i, height, v.device).to(v.dtype).mT for i in starts], 1).mT


def _residual(K: Stored, y: Tensor, alpha: Tensor, regulariser: float) -> Tensor:
    return y - _times(K, alpha) - regulariser * alpha


def _relative(r: Tensor, y: Tensor) -> float:
    return float((r.norm(dim=0) / y.norm(dim=0).clamp_min(1e-300)).max())


def _cholesky(K: Stored, y: Tensor, regulariser: float) -> Solution:
    Y = y[:, None] if y.ndim == 1 else y
    for dtype in (torch.float32, torch.float64):
        factor = _rows(K, 0, len(K), Y.device).to(dtype, copy=True)
        if not bool(torch.isfinite(factor).all()):
            raise DataError("K holds NaN or infinite values.")
        factor.diagonal().add_(regulariser)
        factor, info = torch.linalg.cholesky_ex(factor)
        pivots = factor.diagonal() ** 2
        rounding = 4 * torch.finfo(dtype).eps * len(K) * float(pivots.max())
        if int(info) != 0 or float(pivots.min()) < rounding:
            continue
        alpha, before = torch.zeros_like(Y), 1.0
        for steps in range(1, 30):
            r = _residual(K, Y, alpha, regulariser)
            now = _relative(r, Y)
            if now < 1e-13 or (steps > 2 and now > 0.3 * before):
                break
            alpha = alpha + torch.cholesky_solve(r.to(dtype), factor).double()
            before = now
        # refinement stalls at a condition number beyond the factor's precision
        if now < 1e-9 or (dtype == torch.float64 and now < 1e-7):
            return Solution(alpha.view_as(y), "cholesky", now, steps)
    raise _singular(K, Y, regulariser)


def _singular(K: Stored, Y: Tensor, regulariser: float) -> AnalysisError:
    starts, height = _starts(K)
    place, Y = torch.device("cpu"), Y.cpu()
    d = torch.cat(
        [_rows(K, i, height, place)[:, i : i + height].diagonal() for i in starts]
    ).double()
    same: list[tuple[int, int]] = []
    for i in starts:
        part = _rows(K, i, height, place).double()
        scale = d[i : i + height, None] + d
        near = (scale - 2 * part <= 1e-6 * scale).nonzero()
        same += [(int(a) + i, int(b)) for a, b in near if int(a) + i < int(b)]
        if len(same) > 10_000:
            break
    conflicts = [(a, b) for a, b in same if not torch.allclose(Y[a], Y[b], rtol=1e-9, atol=1e-12)]
    if conflicts:
        shown = ", ".join(f"{a} and {b}" for a, b in conflicts[:3])
        return AnalysisError(
            f"The kernel matrix is singular: {len(conflicts)} pairs of duplicate points have "
            f"conflicting labels (points {shown}).",
            "Remove or average them, or pass regulariser > 0.",
        )
    what = f"{len(same)} pairs of points coincide" if same else "its smallest eigenvalue is <= 0"
    return AnalysisError(
        f"The kernel matrix plus {regulariser:g} is singular to rounding: {what}.",
        f"Pass a regulariser of at least {1e-6 * float(d.mean()):.1g}, or remove duplicates.",
    )


def _pcg(
    K: Stored,
    y: Tensor,
    regulariser: float,
    tolerance: float,
    rank: int,
    iterations: int,
    seed: int,
    progress: Callable[..., None] | None,
) -> Solution:
    Y = y[:, None] if y.ndim == 1 else y
    N = len(K)
    precondition = _nystrom(K, regulariser, min(rank, N), seed, y.device)
    work = torch.float64 if str(K.dtype).endswith("64") else torch.float32
    alpha = torch.zeros_like(Y)
    done, now = 0, 1.0
    # the products run in the matrix's precision; residuals are renewed in float64
    for _ in range(6):
        r = _residual(K, Y, alpha, regulariser)
        now = _relative(r, Y)
        if now <= tolerance or done >= iterations:
            break
        goal = max(tolerance / now / 3, 1e-6 if work == torch.float32 else 1e-14)
        step, count = _cg(
            K,
            r,
            regulariser,
            precondition,
            goal,
            iterations - done,
            work,
            lambda k, res, done=done: progress and progress(done + k, iterations, residual=res),
        )
        alpha, done = alpha + step, done + count
    now = _relative(_residual(K, Y, alpha, regulariser), Y)
    if not np.isfinite(now) or now > 10 * tolerance:
        raise ConvergenceError(
            f"Conjugate gradients reached a relative residual of {now:.1e} in {done} iterations; "
            f"{tolerance:.1e} was asked for.",
            "Raise the regulariser, rank= or iterations=, or remove duplicate points.",
        )
    return Solution(alpha.view_as(y), "pcg", now, done)


def _cg(
    K: Stored,
    b: Tensor,
    regulariser: float,
    precondition: Callable[[Tensor], Tensor],
    goal: float,
    limit: int,
    work: torch.dtype,
    report: Callable[[int, float], object],
) -> tuple[Tensor, int]:
    """Conjugate gradients on (K + λ 1) x = b, all columns at once: x, and the steps taken."""
    size = b.norm(dim=0).clamp_min(1e-300)
    x, r = torch.zeros_like(b), b.clone()
    z = precondition(r)
    p, rz = z.clone(), (r * z).sum(0)
    k = 0
    for k in range(1, limit + 1):
        Ap = _times(K, p.to(work)).double() + regulariser * p
        curvature = (p * Ap).sum(0)
        a = torch.where(curvature > 0, rz / curvature, torch.zeros_like(rz))
        x += a * p
        r -= a * Ap
        worst = float((r.norm(dim=0) / size).max())
        report(k, worst)
        if worst < goal or not bool((a != 0).any()):
            break
        z = precondition(r)
        new = (r * z).sum(0)
        p = z + torch.where(rz > 0, new / rz.clamp_min(1e-300), torch.zeros_like(rz)) * p
        rz = new
    return x, k


def _nystrom(K: Stored, regulariser: float, rank: int, seed: int, place: torch.device):
    """P⁻¹ from the columns of ``rank`` random points: exact on their span, a constant beyond."""
    N = len(K)
    index = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:rank].sort().values
    index = index.to(place)
    starts, height = _starts(K)
    C = torch.cat([_rows(K, i, height, place)[:, index].double() for i in starts])
    W = C[index]
    values, vectors = torch.linalg.eigh((W + W.T) / 2)
    keep = values > 1e-10 * values.max()
    half = C @ (vectors[:, keep] / values[keep].sqrt())
    S, V = torch.linalg.eigh(half.T @ half)
    S = S.clamp_min(1e-300)
    U = half @ (V / S.sqrt())
    floor = float(S.min()) + regulariser
    scale = floor / (S + regulariser) - 1
    # (rᵀ U)ᵀ: see _times
    return lambda r: r + U @ (scale[:, None] * (r.mT.contiguous() @ U).mT)
