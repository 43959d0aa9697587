"""Drawn networks with their NTK: every weight drawn, apart from the library's own ensembles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

NAMES = ("V", "D", "A", "B", "F")


def drawn(arch: Any, X: Tensor, networks: int, *, seed: int = 0, batch: int = 500):
    """n-scaled statistics of neurons i ≠ j with standard errors, for layers 2 ... L − 1.

    All hidden widths must be equal. Rows of the last map that are independent are averaged out:
    V, D and A are covariances of the means of two neurons given the layers before. G1 and H1 are
    means given the layers before, with the noise of those layers, to first order in it and of
    known mean zero, regressed out.

    Returns
    -------
    dict of name to (value, stderr), each (L − 2, ...); names V, D, A, B, F, G1, H1
    """
    g = torch.Generator().manual_seed(seed)
    n, N, layers = arch.n[1], len(X), arch.L - 2
    rows: dict[str, list[Tensor]] = {}
    metric = arch.metric(X)
    first = arch.C_b[0] + arch.C_W[0] * metric
    theta = arch.lambda_b[0] + arch.lambda_W[0] * metric
    independent = arch.init != "orthogonal"
    for _ in range(networks // batch):
        keep: dict[str, list[Tensor]] = {}
        controls: list[Tensor] = []
        for l, (z, H, given, inner, noise) in enumerate(_run(arch, X, batch, g)):
            controls += inner
            zz = torch.einsum("mia,mib->miab", z, z)
            HH = H.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)
            mean_zz, mean_HH = given or (first.expand_as(zz), theta.expand_as(HH))
            if l:
                x, y = (mean_zz, mean_HH) if independent else (zz, HH)
                _record(keep, z, H, x, y, n)
                keep.setdefault("metric", []).append(mean_zz.mean(1))
                keep.setdefault("ntk", []).append(mean_HH.mean(1))
                # controls of the layers before: their mean given the past is zero
                keep.setdefault("controls", []).append(torch.cat(controls, 1))
            # what the next layer depends on to first order, less its known mean
            controls += [*noise, (zz - mean_zz).mean(1).flatten(1)]
            if l:
                controls.append((HH - mean_HH).mean(1).flatten(1))
        for name, values in keep.items():
            if name in ("metric", "ntk"):
                clean = [_regressed(v, c) for v, c in zip(values, keep["controls"], strict=True)]
                rows.setdefault(name, []).append(torch.stack(clean))
            elif name != "controls":
                rows.setdefault(name, []).append(torch.stack([v.mean(0) for v in values]))
    stacked = {name: torch.stack(values) for name, values in rows.items()}
    out = {"G1": _mean(stacked["metric"], n), "H1": _mean(stacked["ntk"], n)}
    means = {"V": ("zz", "zz"), "D": ("zz", "HH"), "A": ("HH", "HH")}
    for name in NAMES:
        out[name] = _jackknife(stacked, name, means.get(name), n, (layers, *(N,) * 4))
    return out


def _neurons(act: Any, z: Tensor, kept: Tensor, G: Tensor, quartic: Tensor | None) -> list[Tensor]:
    """Means over neurons of functions of z = kept + u, less what they are known to be.

    For one input and normal u of covariance G these are σσ and σ'σ'; else the powers up to the
    fourth, ``quartic`` the fourth cumulant of u that is not normal.
    """
    if z.shape[-1] > 1:
        x, k, q = z, kept, G.diagonal(dim1=1, dim2=2)[:, None]
        across = [_across(z, kept, G)] if quartic is None else []
        spread = quartic if quartic is None else quartic[:, None]
        return [t.mean(1).flatten(1) for t in (*_powers(x, k, q, spread), *across)]
    x, k, q = z[..., 0], kept[..., 0], G[:, :, 0]
    if quartic is not None:
        return [t.mean(1, keepdim=True) for t in _powers(x, k, q, quartic[:, None])]
    if act.name == "relu":
        cdf = torch.special.ndtr(k / q.sqrt())
        bell = torch.exp(-0.5 * k**2 / q) / math.sqrt(2 * math.pi)
        known = [(k**2 + q) * cdf + k * q.sqrt() * bell, cdf]
    else:
        # the trapezoidal rule converges geometrically, poles near the axis or not
        at = 0.3 * torch.arange(-24, 25, dtype=torch.float64)
        w = torch.exp(-0.5 * at**2)
        at = kept + G.sqrt() * at
        known = [(act.derivative(p)(at) ** 2) @ (w / w.sum()) for p in (0, 1)]
    found = [act.derivative(p)(x) ** 2 for p in (0, 1)]
    return [(f - k).mean(1, keepdim=True) for f, k in zip(found, known, strict=True)]


def _powers(x: Tensor, k: Tensor, q: Tensor, quartic: Tensor | None) -> list[Tensor]:
    last = 3 * q * q if quartic is None else 3 * q * q + quartic
    return [x - k, x**3 - k**3 - 3 * k * q, x**4 - k**4 - 6 * k * k * q - last]


def _across(z: Tensor, kept: Tensor, G: Tensor) -> Tensor:
    """x_a² x_b² less its mean."""
    q = G.diagonal(dim1=1, dim2=2)[:, None]
    a, b = kept[..., :, None], kept[..., None, :]
    qa, qb, qab = q[..., :, None], q[..., None, :], G[:, None]
    known = a * a * b * b + a * a * qb + b * b * qa + 4 * a * b * qab + qa * qb + 2 * qab**2
    return z[..., :, None] ** 2 * z[..., None, :] ** 2 - known


def _quartic(arch: Any, l: int, s: Tensor, rows: int) -> Tensor | None:
    """Fourth cumulant of W s for one input, where W is not normal; s (batch, columns, N)."""
    columns, share = s.shape[1], arch.C_W[l] / s.shape[1]
    if arch.init == "uniform":
        return -1.2 * share**2 * (s**4).sum(1).squeeze(-1)
    if arch.init == "orthogonal":
        square = share * (s**2).sum(1).squeeze(-1)
        return -6 * square**2 / (max(rows, columns) + 2)
    return None


def _run(arch: Any, X: Tensor, batch: int, g) -> Iterator[tuple]:
    """(z, H, given, inner, noise) at each hidden layer.

    ``given`` the weights before the last map, the means of zz and of the diagonal of H of every
    neuron; ``inner`` and ``noise`` have mean zero, the former known before the last map.
    """
    N, n = len(X), arch.n[1]
    eye = torch.eye(n, dtype=torch.float64)[:, :, None, None]
    W = _matrix(arch, 0, batch, arch.n[1], arch.n[0], g)
    inputs = X.T.double().expand(batch, *X.T.shape)
    z = W @ inputs + arch.C_b[0] ** 0.5 * _normal(g, batch, n, 1)
    metric = arch.metric(X)
    H = (eye * (arch.lambda_b[0] + arch.lambda_W[0] * metric)).expand(batch, n, n, N, N)
    G = (arch.C_b[0] + arch.C_W[0] * metric).expand(batch, N, N)
    act = arch.activations[0]
    yield z, H, None, [], _neurons(act, z, torch.zeros_like(z), G, _quartic(arch, 0, inputs, n))
    for l in range(1, arch.L - 1):
        act, gamma = arch.activations[l - 1], float(arch.gamma[l])
        maps = [act]
        if arch.block == "two_layer":
            maps = [None, act]
        y, T, back, inner = z, H, None, []
        for a in maps:
            width = arch.hidden if a is None else n
            s = y if a is None else a(y)
            d = torch.ones_like(y) if a is None else a.derivative(1)(y)
            W = _matrix(arch, l, batch, width, y.shape[1], g)
            gram = s.transpose(1, 2) @ s / y.shape[1]
            turned = T * d[:, :, None, :, None] * d[:, None, :, None, :]
            trace = turned.diagonal(dim1=1, dim2=2).mean(-1)
            G = arch.C_b[l] + arch.C_W[l] * gram
            ntk = arch.lambda_b[l] + arch.lambda_W[l] * gram + arch.C_W[l] * trace
            direct = (
                torch.eye(width, dtype=torch.float64)[:, :, None, None]
                * (arch.lambda_b[l] + arch.lambda_W[l] * gram)[:, None, None]
            )
            # Jacobian of this map applied to the rows of T, kept for the mixed terms of a skip
            left = W[..., None] * d[:, None]
            back = left if back is None else torch.einsum("mija,mjka->mika", left, back)
            T = torch.einsum("mik,mklab,mjl->mijab", W, turned, W) + direct
            y = W @ s + arch.C_b[l] ** 0.5 * _normal(g, batch, width, 1)
            if a is None:
                inner = _neurons(act, y, torch.zeros_like(y), G, _quartic(arch, l, s, width))
                own = T.diagonal(dim1=1, dim2=2).mean(-1)
                inner += [(own - ntk).flatten(1), (y.mT @ y / width - G).flatten(1)]
        kept = gamma * z
        zz = torch.einsum("mia,mib->miab", kept, kept)
        HH = gamma**2 * H.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)
        if gamma:
            y = y + kept
            half = torch.einsum("mika,mkjab->mijab", back, H)
            T = T + gamma**2 * H + gamma * (half + half.permute(0, 2, 1, 4, 3))
        z, H = y, T
        after = arch.activations[l] if l < arch.L - 1 else act
        noise = _neurons(after, z, kept, G, _quartic(arch, l, s, n))
        yield z, H, (zz + G[:, None], HH + ntk[:, None]), inner, noise


def _normal(g, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def _matrix(arch: Any, l: int, batch: int, rows: int, columns: int, g) -> Tensor:
    std = (arch.C_W[l] / columns) ** 0.5
    if arch.init == "uniform":
        unit = torch.rand(batch, rows, columns, generator=g, dtype=torch.float64) * 2 - 1
        return 3**0.5 * std * unit
    if arch.init == "gaussian":
        return std * _normal(g, batch, rows, columns)
    tall = max(rows, columns)
    q, r = torch.linalg.qr(_normal(g, batch, tall, min(rows, columns)))
    q = q * torch.diagonal(r, dim1=1, dim2=2).sign()[:, None, :]
    q = q if rows >= columns else q.transpose(1, 2)
    return std * tall**0.5 * q


def _record(keep, z: Tensor, H: Tensor, zz: Tensor, HH: Tensor, n: int) -> None:
    def put(name: str, value: Tensor) -> None:
        keep.setdefault(name, []).append(value)

    sums = {"zz": zz.sum(1), "HH": HH.sum(1)}
    for name, value in sums.items():
        put(name, value / n)
    for name, (x, y) in {"V": (zz, zz), "D": (zz, HH), "A": (HH, HH)}.items():
        total = torch.einsum("mab,mcd->mabcd", x.sum(1), y.sum(1))
        total = total - torch.einsum("miab,micd->mabcd", x, y)
        put(name, total / (n * (n - 1)))
    off = H * (1 - torch.eye(n, dtype=torch.float64))[:, :, None, None]
    put("B", torch.einsum("mijab,mijcd->macbd", off, off) / (n * (n - 1)))
    across = torch.einsum("mia,mijcd->mjacd", z, off)
    put("F", torch.einsum("mjacd,mjb->macbd", across, z) / (n * (n - 1)))


def _regressed(value: Tensor, controls: Tensor) -> Tensor:
    """Mean over the batch of ``value`` with its linear part in ``controls`` taken out."""
    y, C = value.flatten(1), controls
    centred = C - C.mean(0)
    beta = torch.linalg.lstsq(centred, y - y.mean(0), driver="gelsd").solution
    return (y.mean(0) - C.mean(0) @ beta).reshape(value.shape[1:])


def _mean(values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """n times the mean; the infinite-width value is for the caller to subtract."""
    return n * values.mean(0), n * values.std(0) / len(values) ** 0.5


def _jackknife(stacked, name: str, means, n: int, shape) -> tuple[Tensor, Tensor]:
    def value(total: dict[str, Tensor]) -> Tensor:
        out = total[name]
        if means:
            a, b = (total[m] for m in means)
            out = out - torch.einsum("...ab,...cd->...abcd", a, b)
        return n * out

    whole = value({k: v.mean(0) for k, v in stacked.items()})
    count = len(stacked[name])
    left_out = value({k: (v.sum(0) - v) / (count - 1) for k, v in stacked.items()})
    stderr = ((count - 1) / count * (left_out - left_out.mean(0)).square().sum(0)).sqrt()
    return whole.reshape(shape), stderr.reshape(shape)


def deviations(flow: Any, runs: list[dict], widths, names) -> dict[str, tuple[Tensor, Tensor]]:
    """For each name and layer: the largest |z| and the error bar over the largest component.

    The error holds the statistical one and a bound on what linear extrapolation leaves.
    """
    found = {}
    base = {"G1": flow.K, "H1": flow.Theta}
    for name in names:
        predicted = flow.require(name)[1 : 1 + len(runs[0][name][0])]
        pair = []
        for run, n in zip(runs, widths, strict=True):
            value, stderr = run[name]
            if name in base:
                value = value - n * base[name][1 : 1 + len(value)]
            pair.append((value, stderr))
        small, large = pair
        value = 2 * large[0] - small[0]
        stderr = (4 * large[1] ** 2 + small[1] ** 2).sqrt()
        drift = (large[0] - small[0]).abs() / 3
        # what is the same for every network is known to rounding
        z = (value - predicted) / (stderr**2 + drift**2).sqrt().clamp_min(1e-7)
        scale = predicted.abs().flatten(1).max(1).values
        bar = stderr.flatten(1).max(1).values / scale
        found[name] = (z.abs().flatten(1).max(1).values, bar)
    return found
