"""Matrix products, sums of products by an equation, determinants."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Size, Value, is_static

LARGEST_DETERMINANT = 16
"""Rows of a matrix whose determinant is computed; each costs some ten operations."""


@ONNX_OPS("MatMul")
def matmul(ctx: Context, A: Value, B: Value) -> Value:
    """The product of batches of matrices; a vector is a row on the left, a column on the right.

    With a constant matrix on the right it is MIL's `linear`.
    """
    if A.rank > 1 and B.rank == 2 and A.is_float and B.array is not None:
        weight = np.ascontiguousarray(B.array.T)
        ctx.check_size(A, -1, weight.shape[1], "the constant matrix")
        return ctx.unary("linear", A, weight=ctx.value(weight))
    left = A if A.rank > 1 else ctx.expand_dims(A, [0])
    right = B if B.rank > 1 else ctx.expand_dims(B, [1])
    result = ctx.unary("matmul", left, y=right)
    gone = [
        *([result.rank - 2] if A.rank == 1 else []),
        *([result.rank - 1] if B.rank == 1 else []),
    ]
    return ctx.squeeze(result, gone)


@ONNX_OPS("Gemm", since=7)
def gemm(
    ctx: Context,
    A: Value,
    B: Value,
    C: Value | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """alpha * A' * B' + beta * C; with a constant matrix on the right MIL's `linear`."""
    if A.is_float and B.array is not None:
        left = ctx.transpose(A, [1, 0]) if transA else A
        weight = B.array if transB else np.ascontiguousarray(B.array.T)
        weight = weight if alpha == 1 else weight * np.float32(alpha)
        ctx.check_size(left, -1, weight.shape[1], "the constant matrix")
        held = B if weight is B.array else ctx.value(weight)
        bias = row_of(C, weight.shape[0])
        if bias is not None:
            scaled = (bias if beta == 1 else bias * np.float32(beta)).astype(np.float32)
            return ctx.unary("linear", left, weight=held, bias=scaled)
        return plus(ctx, ctx.unary("linear", left, weight=held), C, beta)
    product = ctx.unary("matmul", A, y=B, transpose_x=bool(transA), transpose_y=bool(transB))
    return plus(ctx, scaled_by(ctx, product, alpha), C, beta)


@ONNX_OPS("Gemm", since=1)
def gemm_with_broadcast(
    ctx: Context,
    A: Value,
    B: Value,
    C: Value,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """Before opset 7 a flag said whether `C` is broadcast; its shape says so too."""
    return gemm(ctx, A, B, C, alpha=alpha, beta=beta, transA=transA, transB=transB)


def row_of(value: Value | None, size: int) -> np.ndarray | None:
    """A constant that is added to each row of a matrix, as a vector of this size."""
    array = None if value is None else value.array
    if array is None:
        return None
    is_row = array.size == 1 or (array.shape[-1] == size and array.size == size)
    return np.broadcast_to(array.reshape(-1), (size,)).copy() if is_row else None


def plus(ctx: Context, product: Value, added: Value | None, factor: float) -> Value:
    if added is None or factor == 0:
        return product
    return ctx.add(product, scaled_by(ctx, added, factor))


def scaled_by(ctx: Context, x: Value, factor: float) -> Value:
    """The value times a number that may be no integer though the elements are."""
    if factor == 1:
        return x
    if x.is_float:
        return ctx.mul(x, factor)
    if float(factor).is_integer():
        return ctx.mul(x, int(factor))
    return ctx.cast(ctx.mul(ctx.cast(x, "float32"), factor), x.dtype)


# sums of products ----------------------------------------------------------------------------


@ONNX_OPS("Einsum", since=12)
def einsum(ctx: Context, *Inputs: Value, equation: str) -> Value:
    """Sums of products by an equation, operand after operand, as products of matrices.

    Axes of `...` are called by capitals that the equation does not have, from the last one on.
    """
    terms, wanted = parsed(ctx, equation, [item.rank for item in Inputs])
    operands = [diagonal(ctx, item, term) for item, term in zip(Inputs, terms, strict=True)]
    left, axes = operands[0]
    left, axes = summed(ctx, left, axes, [*(term for _, term in operands[1:]), wanted])
    for place, (right, others) in enumerate(operands[1:], 2):
        needed = [*(term for _, term in operands[place:]), wanted]
        right, others = summed(ctx, right, others, [axes, *needed])
        left, axes = contracted(ctx, left, axes, right, others, set("".join(needed)))
        left, axes = summed(ctx, left, axes, needed)
    missing = [place for place, letter in enumerate(wanted) if letter not in axes]
    if missing:
        raise ctx.unsupported(f'the result of "{equation}" has an axis that no input has')
    return ctx.transpose(left, [axes.index(letter) for letter in wanted])


def parsed(ctx: Context, equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """A letter for each axis of each operand, and of the result."""
    given, arrow, result = equation.replace(" ", "").partition("->")
    terms = given.split(",")
    if len(terms) != len(ranks):
        raise ctx.unsupported(f'"{equation}" has {len(terms)} operands, the node {len(ranks)}')
    spare = [chr(code) for code in range(0x100, 0x180)]
    most = 0
    for place, (term, rank) in enumerate(zip(terms, ranks, strict=True)):
        count = rank - len(term.replace("...", ""))
        if count < 0 or (count and "..." not in term):
            raise ctx.unsupported(
                f'"{term}" in "{equation}" names not the {rank} axes of its input'
            )
        terms[place] = term.replace("...", "".join(spare[:count][::-1]))
        most = max(most, count if "..." in term else 0)
    batch = "".join(spare[:most][::-1])
    if not arrow:
        letters = "".join(terms)
        once = sorted(item for item in set(letters) - set(batch) if letters.count(item) == 1)
        return terms, batch + "".join(once)
    return terms, result.replace("...", batch)


def diagonal(ctx: Context, x: Value, term: str) -> tuple[Value, str]:
    """The operand with one axis for each letter, which runs along a diagonal if it is repeated."""
    for letter in dict.fromkeys(term):
        while term.count(letter) > 1:
            first, second = [place for place, item in enumerate(term) if item == letter][:2]
            others = [place for place in range(x.rank) if place not in (first, second)]
            x = ctx.transpose(x, [*others, first, second])
            size = ctx.size(x, x.rank - 1)
            sizes = [ctx.size(x, place) for place in range(x.rank - 2)]
            flat = ctx.reshape(x, [*sizes, ctx.mul(size, size)])
            places = ctx.mul(ctx.range(0, size), ctx.add(size, 1))
            x = ctx.emit("gather", x=flat, indices=places, axis=flat.rank - 1, dtype=x.dtype)
            term = "".join(term[place] for place in others) + letter
    return x, term


def summed(ctx: Context, x: Value, term: str, needed: Sequence[str]) -> tuple[Value, str]:
    """The operand summed over axes that nothing else needs."""
    kept = set("".join(needed))
    gone = [place for place, letter in enumerate(term) if letter not in kept]
    if not gone:
        return x, term
    x = ctx.unary("reduce_sum", x, axes=gone, keep_dims=False)
    return x, "".join(letter for letter in term if letter in kept)


def contracted(
    ctx: Context, x: Value, own: str, y: Value, others: str, needed: set[str]
) -> tuple[Value, str]:
    """The product of two operands, summed over the axes of both that are not needed."""
    inner = [letter for letter in own if letter in others and letter not in needed]
    if not inner:
        return multiplied(ctx, x, own, y, others)
    batch = [letter for letter in own if letter in others and letter in needed]
    rows = [letter for letter in own if letter not in others]
    columns = [letter for letter in others if letter not in own]
    left = ctx.transpose(x, [own.index(item) for item in (*batch, *rows, *inner)])
    right = ctx.transpose(y, [others.index(item) for item in (*batch, *inner, *columns)])
    kept = [*(sizes_of(ctx, x, own, rows)), *(sizes_of(ctx, y, others, columns))]
    left = merged(ctx, left, [*[1] * len(batch), len(rows), len(inner)])
    right = merged(ctx, right, [*[1] * len(batch), len(inner), len(columns)])
    product = ctx.unary("matmul", left, y=right)
    if len(rows) == len(columns) == 1:
        return product, "".join((*batch, *rows, *columns))
    sizes = [ctx.size(product, place) for place in range(len(batch))]
    return ctx.reshape(product, [*sizes, *kept]), "".join((*batch, *rows, *columns))


def sizes_of(ctx: Context, x: Value, term: str, letters: Sequence[str]) -> list[Value]:
    return [ctx.size(x, term.index(letter)) for letter in letters]


def merged(ctx: Context, x: Value, counts: Sequence[int]) -> Value:
    """The value with consecutive axes made one, so many as `counts` says; 0 gives a size of 1."""
    if all(count == 1 for count in counts):
        return x
    sizes: list[Value | int] = []
    place = 0
    for count in counts:
        size: Value | int = 1
        for _ in range(count):
            size = ctx.mul(ctx.size(x, place), size)
            place += 1
        sizes.append(size)
    return ctx.reshape(x, sizes)


def multiplied(ctx: Context, x: Value, own: str, y: Value, others: str) -> tuple[Value, str]:
    """The product of two operands, element by element, that has the axes of both."""
    axes = own + "".join(letter for letter in others if letter not in own)
    wide = ctx.expand_dims(x, list(range(x.rank, len(axes)))) if len(axes) > x.rank else x
    order = sorted(range(len(others)), key=lambda place: axes.index(others[place]))
    y = ctx.transpose(y, order)
    missing = [place for place, letter in enumerate(axes) if letter not in others]
    return ctx.mul(wide, ctx.expand_dims(y, missing) if missing else y), axes


# determinants --------------------------------------------------------------------------------


@ONNX_OPS("Det", since=11)
def determinant(ctx: Context, X: Value) -> Value:
    """Determinants by elimination with pivots, a row after the other."""
    count = X.shape[-1]
    if not is_static(X.shape[-2:]) or not 1 <= count <= LARGEST_DETERMINANT:
        raise ctx.unsupported(
            f"matrices of {X.shape[-2]} rows; there must be a fixed number up to "
            f"{LARGEST_DETERMINANT}"
        )
    rows = X if X.rank == 3 else ctx.reshape(X, [product_of(X.shape[:-2]), count, count])
    result: Value | None = None
    for size in range(int(count), 0, -1):
        pivot, rows = eliminated(ctx, rows, size)
        result = pivot if result is None else ctx.mul(result, pivot)
    assert result is not None
    if X.rank <= 3:
        return result if X.rank == 3 else ctx.squeeze(result, [0])
    return ctx.reshape(result, [ctx.size(X, place) for place in range(X.rank - 2)])


def product_of(sizes: Sequence[Size]) -> int:
    """The number of elements, or -1 if it is dynamic."""
    return int(math.prod(sizes)) if is_static(tuple(sizes)) else -1


def eliminated(ctx: Context, rows: Value, size: int) -> tuple[Value, Value]:
    """The pivot of the first column, with the sign of the swap; and the matrix below and right."""
    column = ctx.slice_axis(rows, 2, 0, 1)
    if size == 1:
        return ctx.squeeze(column, [1, 2]), rows
    place = ctx.emit(
        "reduce_argmax", x=ctx.squeeze(ctx.unary("abs", column), [2]), axis=1, keep_dims=True
    )
    # one-hot rows move the pivot's row to the top, and the top one to its place
    steps = ctx.value(np.arange(size).reshape(1, size), "int32")
    is_pivot = ctx.expand_dims(ctx.cast(ctx.equal(steps, place), "float32"), [2])
    top_row = ctx.slice_axis(rows, 1, 0, 1)
    pivot_row = ctx.unary("reduce_sum", ctx.mul(rows, is_pivot), axes=[1], keep_dims=True)
    rows = ctx.add(rows, ctx.mul(is_pivot, ctx.sub(top_row, pivot_row)))
    pivot = ctx.slice_axis(pivot_row, 2, 0, 1)
    divisor = ctx.where(ctx.equal(pivot, 0.0), 1.0, pivot)
    below = ctx.slice_axis(rows, 1, 1)
    factors = ctx.div(ctx.slice_axis(below, 2, 0, 1), divisor)
    rest = ctx.sub(ctx.slice_axis(below, 2, 1), ctx.mul(factors, ctx.slice_axis(pivot_row, 2, 1)))
    sign = ctx.where(ctx.equal(place, 0), ctx.value(np.float32(1)), ctx.value(np.float32(-1)))
    return ctx.mul(ctx.squeeze(pivot, [1, 2]), ctx.squeeze(sign, [1])), rest
