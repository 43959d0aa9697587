"""Compiled loops that read each needed weight row once, at memory speed.

A dense pass is one stream, which the hardware prefetcher follows by itself (several rows side by
side fall on the same cache sets and halve the speed). Gathered rows are prefetched by hand while
the row before is in work, since the hardware cannot guess the next active row. No loop opens a
parallel region: threads belong to the caller (see ``numba_backend``), so no OpenMP runtime is
started beside torch's.
"""

# Numba compiles these functions, so the checker's view of them is of no use.
# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false, reportCallIssue=false
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["accumulate", "compact", "matvec", "matvec_rows", "union_accumulate"]

_LINE = 64  # bytes in a cache line
AHEAD = 2  # rows between the prefetch and the use
_PIECE = 64  # columns worked on between two bursts of prefetches


@intrinsic
def _prefetch(typingctx, array, index):
    """Ask for the cache line of ``array.flat[index]``; never faults, needs no bounds."""

    def code(context, builder, signature, arguments):
        kind = signature.args[0]
        view = cgutils.create_struct_proxy(kind)(context, builder, arguments[0])
        pointer = builder.gep(view.data, [arguments[1]])
        byte = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, *[ir.IntType(32)] * 3]),
            "llvm.prefetch.p0i8",
        )
        read, locality, data = (ir.Constant(ir.IntType(32), v) for v in (0, 2, 1))
        builder.call(function, [builder.bitcast(pointer, byte), read, locality, data])
        return context.get_dummy_value()

    return types.void(array, types.int64), code


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


@njit(inline="always")
def _round_bf16(value):
    # round to nearest, ties to even, as torch does when it stores bfloat16
    bits = _float_to_bits(np.float32(value))
    bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return _bits_to_float(np.uint32(bits & np.uint32(0xFFFF0000)))


@njit(fastmath=True, nogil=True, cache=True)
def matvec(weight, bias, x, z, start, stop, rounded):
    """z[start:stop] = weight[start:stop] @ x + bias, rounded to bfloat16 if ``rounded``."""
    for i in range(start, stop):
        s = np.float32(0.0)
        for j in range(weight.shape[1]):
            s += _widen(weight[i, j]) * x[j]
        s += bias[i]
        z[i] = _round_bf16(s) if rounded else s


@njit(fastmath=True, nogil=True, cache=True)
def matvec_rows(weight, bias, x, rows, z, start, stop, rounded):
    """z[q] = weight[rows[q]] @ x + bias[rows[q]] for start <= q < stop."""
    d = weight.shape[1]
    flat = weight.ravel()
    step = _LINE // weight.itemsize
    last = len(rows) - 1
    for q in range(start, stop):
        row = weight[rows[q]]
        ahead = rows[min(q + AHEAD, last)] * d
        s = np.float32(0.0)
        for k in range(0, d, _PIECE):
            for j in range(k, k + _PIECE, step):
                _prefetch(flat, ahead + j)
            for j in range(k, min(k + _PIECE, d)):
                s += _widen(row[j]) * x[j]
        s += bias[rows[q]]
        z[q] = _round_bf16(s) if rounded else s


@njit(nogil=True, cache=True)
def compact(a, rows, values):
    """List the entries of ``a`` that are not zero (NaN is kept); returns how many.

    ``rows`` and ``values`` need one place more than ``a`` has entries.
    """
    count = 0
    for i in range(len(a)):
        # written always, kept only if nonzero: no branch to mispredict
        rows[count] = i
        values[count] = a[i]
        count += a[i] != np.float32(0.0)
    return count


@njit(fastmath=True, nogil=True, cache=True)
def accumulate(table, rows, values, y, start, stop):
    """y += sum of values[q] * table[rows[q]] over start <= q < stop."""
    d = table.shape[1]
    flat = table.ravel()
    step = _LINE // table.itemsize
    last = len(rows) - 1
    for q in range(start, stop):
        row = table[rows[q]]
        u = values[q]
        ahead = rows[min(q + AHEAD, last)] * d
        for k in range(0, d, _PIECE):
            for j in range(k, k + _PIECE, step):
                _prefetch(flat, ahead + j)
            for j in range(k, min(k + _PIECE, d)):
                y[j] += u * _widen(row[j])


@njit(fastmath=True, nogil=True, cache=True)
def union_accumulate(table, rows, a, y, start, stop):
    """y[t] += sum over q of a[t, rows[q]] * table[rows[q]]; each row is read once."""
    d = table.shape[1]
    flat = table.ravel()
    step = _LINE // table.itemsize
    last = len(rows) - 1
    for q in range(start, stop):
        i = rows[q]
        row = table[i]
        ahead = rows[min(q + AHEAD, last)] * d
        for j in range(0, d, step):
            _prefetch(flat, ahead + j)
        for t in range(a.shape[0]):
            u = a[t, i]
            if u != np.float32(0.0):
                for j in range(d):
                    y[t, j] += u * _widen(row[j])
