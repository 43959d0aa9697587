"""Compiled loops that read each needed weight row once, at memory speed.

A dense pass is four streams far apart, which the hardware prefetcher follows by itself (rows side
by side fall on the same cache sets and halve the speed). Gathered rows are too short for it, so
eight of them are read side by side: that many requests to memory are then under way at a time
(one row at a time reaches half the speed, with or without prefetching by hand). No loop opens a
parallel region: threads belong to the caller (see ``numba_backend``), so no OpenMP runtime is
started beside torch's.

Arguments, the same in all of them (float32 unless said; bfloat16 comes as uint16):

``weight``, ``first``, ``up``  (m, d), a neuron a row; ``bias``, ``up_bias`` (m,)
``table``         (m, n_out), what each neuron adds to the output
``x``             (d,), the token; ``y`` (n_out,), added to; ``z`` (m,), preactivations
``rows``          (r,) int64, neurons; ``values`` (r,), their activations; ``count``, how many of
                  these are filled in
``start, stop``   the part of the rows this thread does
``k, tau``        keep the k largest (0: all), and those of size at least tau
``gated``         whether ``up`` is read
``rounded``       round to bfloat16, as torch does when it stores
``codes``         (m, d) int8, the first matrix in eight bits, with the bounds ``scale``, ``loose``,
                  ``norm``, ``shift`` (m,) of :class:`kadanoff.sparsity.screen.Screen`
"""

# Numba compiles these functions, so the checker's view of them is of no use.
# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false, reportCallIssue=false
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = [
    "accumulate",
    "codes_dot",
    "codes_of",
    "compact",
    "finish",
    "matvec",
    "matvec_rows",
    "possible",
    "relu_block",
    "screened_block",
    "union_accumulate",
]

_PIECE = 512  # columns of eight rows that stay in the first cache


@intrinsic
def _bits_to_float(typingctx, bits):
    """The float32 whose bit pattern is ``bits`` (uint32)."""

    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), code


@intrinsic
def _float_to_bits(typingctx, value):
    def code(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), code


@intrinsic
def _widen(typingctx, value):
    """float32 as itself; bfloat16, held as uint16, as the float32 with the same leading bits."""
    if value == types.uint16:

        def code(context, builder, signature, arguments):
            word = builder.shl(
                builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16)
            )
            return builder.bitcast(word, ir.FloatType())
    else:

        def code(context, builder, signature, arguments):
            return arguments[0]

    return types.float32(value), code


@intrinsic
def _add_product(typingctx, total, code, level):
    """total + code · level in 32 bits (numba itself widens to 64, and vector units lose by it)."""

    def code_(context, builder, signature, arguments):
        word = ir.IntType(32)
        product = builder.mul(builder.sext(arguments[1], word), builder.sext(arguments[2], word))
        return builder.add(arguments[0], product)

    return types.int32(types.int32, types.int8, types.int16), code_


@njit(inline="always")
def _round_bf16(value):
    # round to nearest, ties to even, as torch does when it stores bfloat16
    bits = _float_to_bits(np.float32(value))
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return _bits_to_float(np.uint32(bits & np.uint32(0xFFFF0000)))


@njit(fastmath=True, nogil=True, cache=True)
def matvec(weight, bias, x, z, start, stop, rounded):
    """z[start:stop] = weight[start:stop] @ x + bias, rounded to bfloat16 if ``rounded``."""
    part = (stop - start) // 4
    for a in range(start, start + part):
        b, c, d = a + part, a + 2 * part, a + 3 * part
        sa = sb = sc = sd = np.float32(0.0)
        for j in range(weight.shape[1]):
            sa += _widen(weight[a, j]) * x[j]
            sb += _widen(weight[b, j]) * x[j]
            sc += _widen(weight[c, j]) * x[j]
            sd += _widen(weight[d, j]) * x[j]
        z[a], z[b], z[c], z[d] = sa, sb, sc, sd
    for i in range(start + 4 * part, stop):
        s = np.float32(0.0)
        for j in range(weight.shape[1]):
            s += _widen(weight[i, j]) * x[j]
        z[i] = s
    for i in range(start, stop):
        s = z[i] + bias[i]
        z[i] = _round_bf16(s) if rounded else s


@njit(fastmath=True, nogil=True, cache=True)
def matvec_rows(weight, bias, x, rows, z, start, stop, rounded):
    """z[q] = weight[rows[q]] @ x + bias[rows[q]] for start <= q < stop."""
    q = start
    while q + 8 <= stop:
        a, b, c, d = weight[rows[q]], weight[rows[q + 1]], weight[rows[q + 2]], weight[rows[q + 3]]
        e, f = weight[rows[q + 4]], weight[rows[q + 5]]
        g, h = weight[rows[q + 6]], weight[rows[q + 7]]
        sa = sb = sc = sd = se = sf = sg = sh = np.float32(0.0)
        for j in range(weight.shape[1]):
            sa += _widen(a[j]) * x[j]
            sb += _widen(b[j]) * x[j]
            sc += _widen(c[j]) * x[j]
            sd += _widen(d[j]) * x[j]
            se += _widen(e[j]) * x[j]
            sf += _widen(f[j]) * x[j]
            sg += _widen(g[j]) * x[j]
            sh += _widen(h[j]) * x[j]
        z[q], z[q + 1], z[q + 2], z[q + 3] = sa, sb, sc, sd
        z[q + 4], z[q + 5], z[q + 6], z[q + 7] = se, sf, sg, sh
        q += 8
    while q < stop:
        row = weight[rows[q]]
        s = np.float32(0.0)
        for j in range(weight.shape[1]):
            s += _widen(row[j]) * x[j]
        z[q] = s
        q += 1
    for q in range(start, stop):
        s = z[q] + bias[rows[q]]
        z[q] = _round_bf16(s) if rounded else s


@njit(nogil=True, cache=True)
def compact(a, tau, rows, values):
    """List the entries of ``a`` that are not zero and not below ``tau`` in size; returns how many.

    NaN is kept. ``rows`` and ``values`` need one place more than ``a`` has entries.
    """
    count = 0
    for i in range(len(a)):
        # written always, kept only if nonzero: no branch to mispredict
        rows[count] = i
        values[count] = a[i]
        count += (a[i] != np.float32(0.0)) & (not (abs(a[i]) < tau))
    return count


@njit(nogil=True, cache=True)
def _largest(rows, values, count, k):
    """Keep the k entries of largest size, of equal ones the first; returns how many are kept.

    The k-th largest size is found by its bits, 11 and then twice 10 at a time from the top.
    """
    if count <= k:
        return count
    known, mask, need = np.uint32(0), np.uint32(0), k
    tally = np.empty(2048, np.int32)
    for shift, width in ((20, 11), (10, 10), (0, 10)):
        tally[:] = 0
        low = np.uint32((1 << width) - 1)
        for q in range(count):
            bits = _float_to_bits(values[q]) & np.uint32(0x7FFFFFFF)
            if bits & mask == known:
                tally[(bits >> np.uint32(shift)) & low] += 1
        digit = (1 << width) - 1
        while tally[digit] < need:
            need -= tally[digit]
            digit -= 1
        known |= np.uint32(digit) << np.uint32(shift)
        mask |= low << np.uint32(shift)
    kept = 0
    for q in range(count):
        bits = _float_to_bits(values[q]) & np.uint32(0x7FFFFFFF)
        tied = bits == known
        rows[kept], values[kept] = rows[q], values[q]
        kept += (bits > known) | (tied & (need > 0))
        need -= tied
    return kept


@njit(fastmath=True, nogil=True, cache=True)
def accumulate(table, rows, values, y, start, stop):
    """y += sum of values[q] * table[rows[q]] over start <= q < stop."""
    q = start
    while q + 8 <= stop:
        a, b, c, d = table[rows[q]], table[rows[q + 1]], table[rows[q + 2]], table[rows[q + 3]]
        e, f, g, h = table[rows[q + 4]], table[rows[q + 5]], table[rows[q + 6]], table[rows[q + 7]]
        ua, ub, uc, ud = values[q], values[q + 1], values[q + 2], values[q + 3]
        ue, uf, ug, uh = values[q + 4], values[q + 5], values[q + 6], values[q + 7]
        for j in range(table.shape[1]):
            y[j] += (
                ua * _widen(a[j])
                + ub * _widen(b[j])
                + uc * _widen(c[j])
                + ud * _widen(d[j])
                + ue * _widen(e[j])
                + uf * _widen(f[j])
                + ug * _widen(g[j])
                + uh * _widen(h[j])
            )
        q += 8
    while q < stop:
        row, u = table[rows[q]], values[q]
        for j in range(table.shape[1]):
            y[j] += u * _widen(row[j])
        q += 1


@njit(nogil=True, cache=True)
def finish(a, k, tau, gated, up, up_bias, x, table, y, rounded):
    """Add the block's second half to ``y``: select, the rows of ``up`` if gated, combine.

    ``k`` = 0 and ``tau`` = 0 keep every nonzero activation.
    """
    rows = np.empty(len(a) + 1, np.int64)
    values = np.empty(len(a) + 1, np.float32)
    count = compact(a, tau, rows, values)
    _finish(rows, values, count, k, gated, up, up_bias, x, table, y, rounded)


@njit(nogil=True, cache=True)
def _finish(rows, values, count, k, gated, up, up_bias, x, table, y, rounded):
    if k > 0:
        count = _largest(rows, values, count, k)
    if gated:
        other = np.empty(count, np.float32)
        matvec_rows(up, up_bias, x, rows, other, 0, count, rounded)
        for q in range(count):
            u = values[q] * other[q]
            values[q] = _round_bf16(u) if rounded else u
    accumulate(table, rows, values, y, 0, count)


@njit(nogil=True, cache=True)
def _relu(z):
    for i in range(len(z)):
        # NaN passes, as in torch
        z[i] = np.float32(0.0) if z[i] < np.float32(0.0) else z[i]


@njit(nogil=True, cache=True)
def relu_block(first, bias, k, tau, gated, up, up_bias, x, table, y, rounded):
    """y += second matrix @ Top_k(relu(first @ x + bias)) in one call, or the gated block."""
    z = np.empty(len(first), np.float32)
    matvec(first, bias, x, z, 0, len(first), rounded)
    _relu(z)
    finish(z, k, tau, gated, up, up_bias, x, table, y, rounded)


@njit(nogil=True, cache=True)
def codes_of(x, levels):
    """x ≈ step · codes: the codes (int16), step, ‖x‖ and ‖x - step · codes‖."""
    most = np.float64(0.0)
    for j in range(len(x)):
        most = max(most, abs(np.float64(x[j])))
    step = max(most / levels, 1e-300)
    codes = np.empty(len(x), np.int16)
    size = rest = 0.0
    for j in range(len(x)):
        value = np.float64(x[j])
        # NaN and infinity: the sizes say so, and the code does not matter
        code = np.rint(value / step) if abs(value) <= most < np.inf else 0.0
        codes[j] = np.int16(code)
        size += value * value
        rest += (value - step * code) ** 2
    return codes, step, np.sqrt(size), np.sqrt(rest)


@njit(nogil=True, cache=True)
def codes_dot(codes, x, dots, start, stop):
    """dots[start:stop] = codes[start:stop] @ x, all integers."""
    part = (stop - start) // 4
    for a in range(start, start + part):
        b, c, d = a + part, a + 2 * part, a + 3 * part
        sa = sb = sc = sd = np.int32(0)
        for j in range(codes.shape[1]):
            sa = _add_product(sa, codes[a, j], x[j])
            sb = _add_product(sb, codes[b, j], x[j])
            sc = _add_product(sc, codes[c, j], x[j])
            sd = _add_product(sd, codes[d, j], x[j])
        dots[a], dots[b], dots[c], dots[d] = sa, sb, sc, sd
    for i in range(start + 4 * part, stop):
        s = np.int32(0)
        for j in range(codes.shape[1]):
            s = _add_product(s, codes[i, j], x[j])
        dots[i] = s


@njit(nogil=True, cache=True)
def possible(dots, scale, loose, norm, bias, step, size, rest, k, tau, margin, rows):
    """List the neurons that may be active, given the bounds of `Screen`; returns how many.

    With ``k``, also those are out that are surely below the k-th largest.
    """
    m = len(dots)
    floor = np.float64(tau)
    if k > 0:
        places = np.empty(m + 1, np.int64)
        least = np.empty(m + 1, np.float32)
        count = 0
        for i in range(m):
            slack = loose[i] * size + norm[i] * rest + 2.4e-7 * abs(bias[i])
            low = (scale[i] * step * dots[i] + bias[i] - slack) * 0.999999
            places[count] = i
            least[count] = low
            count += low > 0.0
        if count >= k:
            count = _largest(places, least, count, k)
            smallest = least[0]
            for q in range(1, count):
                smallest = min(smallest, least[q])
            floor = max(floor, np.float64(smallest))
    floor *= 1.0 - margin
    count = 0
    for i in range(m):
        slack = loose[i] * size + norm[i] * rest + 2.4e-7 * abs(bias[i])
        rows[count] = i
        # written so that NaN stays in
        count += not (scale[i] * step * dots[i] + bias[i] + slack < floor)
    return count


@njit(nogil=True, cache=True)
def screened_block(
    first,
    bias,
    codes,
    scale,
    loose,
    norm,
    shift,
    levels,
    margin,
    k,
    tau,
    gated,
    up,
    up_bias,
    x,
    table,
    y,
    rounded,
):
    """`relu_block` that reads only those rows of ``first`` which may be active."""
    m = len(first)
    level, step, size, rest = codes_of(x, levels)
    dots = np.empty(m, np.int32)
    codes_dot(codes, level, dots, 0, m)
    guess = np.empty(m + 1, np.int64)
    count = possible(dots, scale, loose, norm, shift, step, size, rest, k, tau, margin, guess)
    guess = guess[:count]
    z = np.empty(count, np.float32)
    matvec_rows(first, bias, x, guess, z, 0, count, rounded)
    _relu(z)
    rows = np.empty(count + 1, np.int64)
    values = np.empty(count + 1, np.float32)
    count = compact(z, tau, rows, values)
    for q in range(count):
        rows[q] = guess[rows[q]]
    _finish(rows, values, count, k, gated, up, up_bias, x, table, y, rounded)


@njit(fastmath=True, nogil=True, cache=True)
def union_accumulate(table, rows, a, y, start, stop):
    """y[t] += sum over q of a[t, rows[q]] * table[rows[q]]; each row is read once."""
    width = table.shape[1]
    q = start
    while q + 8 <= stop:
        a0, b0, c0, d0 = rows[q], rows[q + 1], rows[q + 2], rows[q + 3]
        e0, f0, g0, h0 = rows[q + 4], rows[q + 5], rows[q + 6], rows[q + 7]
        # pieces short enough for all tokens to find them in the cache
        for left in range(0, width, _PIECE):
            right = min(left + _PIECE, width)
            a1, b1, c1 = table[a0, left:right], table[b0, left:right], table[c0, left:right]
            d1, e1, f1 = table[d0, left:right], table[e0, left:right], table[f0, left:right]
            g1, h1 = table[g0, left:right], table[h0, left:right]
            for t in range(len(a)):
                ua, ub, uc, ud = a[t, a0], a[t, b0], a[t, c0], a[t, d0]
                ue, uf, ug, uh = a[t, e0], a[t, f0], a[t, g0], a[t, h0]
                out = y[t, left:right]
                for j in range(len(out)):
                    out[j] += (
                        ua * _widen(a1[j])
                        + ub * _widen(b1[j])
                        + uc * _widen(c1[j])
                        + ud * _widen(d1[j])
                        + ue * _widen(e1[j])
                        + uf * _widen(f1[j])
                        + ug * _widen(g1[j])
                        + uh * _widen(h1[j])
                    )
        q += 8
    while q < stop:
        for t in range(len(a)):
            u = a[t, rows[q]]
            for j in range(width):
                y[t, j] += u * _widen(table[rows[q], j])
        q += 1
