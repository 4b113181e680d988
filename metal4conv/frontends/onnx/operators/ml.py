"""Classic models (`ai.onnx.ml`) on numbers: linear ones, trees, encoders. MIL has no strings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.tensors import Tensor
from metal4conv.frontends.onnx.value import Value, numpy_dtype

Numbers = list[float] | None
Integers = list[int] | None
Strings = list[str] | None


# features ------------------------------------------------------------------------------------


@ONNX_OPS("ai.onnx.ml.Binarizer")
def binarizer(ctx: Context, X: Value, *, threshold: float = 0.0) -> Value:
    """1 above the threshold, else 0."""
    is_above = ctx.binary("greater", ctx.cast(X, "float32"), np.float32(threshold))
    return ctx.cast(is_above, X.dtype)


@ONNX_OPS("ai.onnx.ml.Scaler")
def scaler(ctx: Context, X: Value, *, offset: Numbers = None, scale: Numbers = None) -> Value:
    """(X - offset) * scale, for all features or each its own."""
    x = ctx.cast(X, "float32")
    if offset:
        x = ctx.sub(x, floats(offset))
    return ctx.mul(x, floats(scale)) if scale else x


@ONNX_OPS("ai.onnx.ml.Normalizer")
def normalizer(ctx: Context, X: Value, *, norm: str = "MAX") -> Value:
    """Rows divided by their largest element, sum of distances from 0, or length; 0 divides none."""
    operations = {"MAX": "reduce_max", "L1": "reduce_l1_norm", "L2": "reduce_l2_norm"}
    if norm not in operations:
        raise ctx.unsupported(f'there is no norm "{norm}"')
    x = ctx.cast(X, "float32")
    divisor = ctx.unary(operations[norm], x, axes=[x.rank - 1], keep_dims=True)
    return ctx.div(x, ctx.where(ctx.equal(divisor, 0.0), 1.0, divisor))


@ONNX_OPS("ai.onnx.ml.Imputer")
def imputer(
    ctx: Context,
    X: Value,
    *,
    imputed_value_floats: Numbers = None,
    imputed_value_int64s: Integers = None,
    replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Value:
    """One value, which may be NaN, replaced by another, or by that of its feature."""
    given = imputed_value_floats if X.is_float else imputed_value_int64s
    if not given:
        raise ctx.unsupported(f"it gives no values of the input's dtype, {X.dtype}")
    replaced = replaced_value_float if X.is_float else replaced_value_int64
    values = Value(X.dtype, known=np.asarray(given).astype(numpy_dtype(X.dtype)))
    if values.shape == (1,):
        values = Value(X.dtype, known=values.array.reshape(())) if values.array is not None else X
    is_missing = ctx.binary("not_equal", X, X) if replaced != replaced else ctx.equal(X, replaced)
    return ctx.where(is_missing, values, X)


@ONNX_OPS("ai.onnx.ml.ArrayFeatureExtractor")
def array_feature_extractor(ctx: Context, X: Value, Y: Value) -> Value:
    """The features at the places in Y; of a vector, a row of them."""
    places = ctx.reshape(Y, [-1])
    x = X if X.rank > 1 else ctx.expand_dims(X, [0])
    result: Value = ctx.emit("gather", x=x, indices=places, axis=x.rank - 1, dtype=X.dtype)
    return result


@ONNX_OPS("ai.onnx.ml.FeatureVectorizer")
def feature_vectorizer(ctx: Context, *X: Value, inputdimensions: Integers = None) -> Value:
    """The features of all inputs side by side."""
    columns = [ctx.cast(item, "float32") for item in X]
    return ctx.concat(
        [item if item.rank > 1 else ctx.expand_dims(item, [0]) for item in columns], 1
    )


@ONNX_OPS("ai.onnx.ml.OneHotEncoder")
def one_hot_encoder(
    ctx: Context,
    X: Value,
    *,
    cats_int64s: Integers = None,
    cats_strings: Strings = None,
    zeros: int = 1,
) -> Value:
    """1 at the place of each element's category, along a new last axis.

    A category that is not there gives zeros; MIL cannot fail on it, as it should without `zeros`.
    """
    if not cats_int64s:
        raise ctx.unsupported("the categories are strings, which a MIL program cannot hold")
    x = ctx.expand_dims(ctx.cast(X, "int64"), [X.rank])
    return ctx.cast(ctx.equal(x, ctx.value(np.asarray(cats_int64s))), "float32")


@ONNX_OPS("ai.onnx.ml.LabelEncoder", since=4)
def label_encoder(
    ctx: Context,
    X: Value,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    default_tensor: Tensor | None = None,
    keys_floats: Numbers = None,
    keys_int64s: Integers = None,
    keys_strings: Strings = None,
    keys_tensor: Tensor | None = None,
    values_floats: Numbers = None,
    values_int64s: Integers = None,
    values_strings: Strings = None,
    values_tensor: Tensor | None = None,
) -> Value:
    """The value beside each element's key, or the default one; NaN is a key too."""
    keys = table_of(keys_floats, keys_int64s, keys_tensor)
    values = table_of(values_floats, values_int64s, values_tensor)
    if keys is None or values is None:
        raise ctx.unsupported("keys or values are strings, which a MIL program cannot hold")
    default = np.asarray(default_float if values.dtype.startswith("float") else default_int64)
    if default_tensor is not None:
        default = default_tensor.array.reshape(())
    elif values_tensor is not None and not values.dtype.startswith("float"):
        default = np.asarray(default_int64)
    return looked_up(ctx, X, keys, values, default)


@ONNX_OPS("ai.onnx.ml.LabelEncoder", since=2)
def label_encoder_of_lists(
    ctx: Context,
    X: Value,
    *,
    default_float: float = -0.0,
    default_int64: int = -1,
    default_string: str = "_Unused",
    keys_floats: Numbers = None,
    keys_int64s: Integers = None,
    keys_strings: Strings = None,
    values_floats: Numbers = None,
    values_int64s: Integers = None,
    values_strings: Strings = None,
) -> Value:
    return label_encoder(
        ctx,
        X,
        default_float=default_float,
        default_int64=default_int64,
        keys_floats=keys_floats,
        keys_int64s=keys_int64s,
        values_floats=values_floats,
        values_int64s=values_int64s,
    )


def table_of(numbers: Numbers, integers: Integers, tensor: Tensor | None) -> Tensor | None:
    """Keys or values from whichever attribute has them; None for strings."""
    if tensor is not None:
        return None if tensor.dtype == "string" else tensor
    if numbers:
        return Tensor(np.asarray(numbers, np.float32), "float32")
    return Tensor(np.asarray(integers, np.int64), "int64") if integers else None


def looked_up(ctx: Context, x: Value, keys: Tensor, values: Tensor, default: np.ndarray) -> Value:
    """The values beside the keys that elements equal."""
    rows = ctx.expand_dims(ctx.cast(x, keys.dtype), [x.rank])
    is_key = ctx.equal(rows, Value(keys.dtype, known=keys.array.reshape(-1)))
    if keys.dtype.startswith("float") and np.isnan(keys.array.astype(np.float32)).any():
        is_nan = Value("bool", known=np.isnan(keys.array.astype(np.float32)).reshape(-1))
        found_nan = ctx.binary("logical_and", ctx.binary("not_equal", rows, rows), is_nan)
        is_key = ctx.binary("logical_or", is_key, found_nan)
    hits = ctx.cast(is_key, "int32")
    axis = hits.rank - 1
    place = ctx.emit("reduce_argmax", x=hits, axis=axis, keep_dims=False)
    is_known = ctx.equal(ctx.emit("reduce_max", x=hits, axes=[axis], keep_dims=False), 1)
    table = Value(values.dtype, known=values.array.reshape(-1))
    picked: Value = ctx.emit("gather", x=table, indices=place, axis=0, dtype=values.dtype)
    return ctx.where(
        is_known, picked, Value(values.dtype, known=default.astype(values.array.dtype))
    )


# linear models and support vectors -----------------------------------------------------------


@ONNX_OPS("ai.onnx.ml.LinearRegressor")
def linear_regressor(
    ctx: Context,
    X: Value,
    *,
    coefficients: Numbers = None,
    intercepts: Numbers = None,
    post_transform: str = "NONE",
    targets: int = 1,
) -> Value:
    scores = linear_scores(ctx, X, coefficients or [], intercepts, targets)
    return transformed(ctx, scores, post_transform)


@ONNX_OPS("ai.onnx.ml.LinearClassifier")
def linear_classifier(
    ctx: Context,
    X: Value,
    *,
    classlabels_ints: Integers = None,
    classlabels_strings: Strings = None,
    coefficients: list[float],
    intercepts: Numbers = None,
    multi_class: int = 0,
    post_transform: str = "NONE",
) -> tuple[Value, Value]:
    """The label with the highest score, and the scores of all."""
    if not classlabels_ints:
        raise ctx.unsupported("the labels are strings, which a MIL program cannot hold")
    count = len(classlabels_ints)
    if len(coefficients) % count or len(intercepts or []) not in (0, count):
        raise ctx.unsupported(f"{len(coefficients)} coefficients are no rows for {count} labels")
    scores = linear_scores(ctx, X, coefficients, intercepts, count)
    if scores.shape[-1] != count or int(X.shape[-1]) * count != len(coefficients):
        raise ctx.unsupported("one row of coefficients stands for two labels")
    return label_of(ctx, scores, classlabels_ints), transformed(ctx, scores, post_transform)


def linear_scores(
    ctx: Context, x: Value, coefficients: Sequence[float], intercepts: Numbers, count: int
) -> Value:
    """Weighted sums of the features, `count` of them."""
    rows = ctx.cast(x if x.rank > 1 else ctx.expand_dims(x, [0]), "float32")
    weight = floats(coefficients).reshape(count, -1)
    bias = floats(intercepts) if intercepts else None
    result: Value = ctx.emit("linear", x=rows, weight=weight, bias=bias)
    return result


def label_of(ctx: Context, scores: Value, labels: Sequence[int]) -> Value:
    """The label with the highest score."""
    place = ctx.emit("reduce_argmax", x=scores, axis=scores.rank - 1, keep_dims=False)
    table = ctx.value(np.asarray(labels, np.int64))
    result: Value = ctx.emit("gather", x=table, indices=place, axis=0, dtype="int64")
    return result


def transformed(ctx: Context, scores: Value, kind: str) -> Value:
    """Scores as a model's last step makes them: probabilities, or as they are."""
    match kind:
        case "NONE":
            return scores
        case "LOGISTIC":
            return ctx.unary("sigmoid", scores)
        case "SOFTMAX":
            return ctx.unary("softmax", scores, axis=-1)
    raise ctx.unsupported(f"post_transform {kind}; NONE, LOGISTIC and SOFTMAX are possible")


@ONNX_OPS("ai.onnx.ml.SVMRegressor")
def svm_regressor(
    ctx: Context,
    X: Value,
    *,
    coefficients: Numbers = None,
    kernel_params: Numbers = None,
    kernel_type: str = "LINEAR",
    n_supports: int = 0,
    one_class: int = 0,
    post_transform: str = "NONE",
    rho: Numbers = None,
    support_vectors: Numbers = None,
) -> Value:
    """Weighted similarities to the support vectors; for one class their sign."""
    x = ctx.cast(X if X.rank > 1 else ctx.expand_dims(X, [0]), "float32")
    weights = floats(coefficients or [])
    if n_supports:
        vectors = floats(support_vectors or []).reshape(n_supports, -1)
        x = similarities(ctx, x, vectors, kernel_type, kernel_params or [0.0, 0.0, 0.0])
    bias = floats(rho[:1]) if rho else None
    result: Value = ctx.emit("linear", x=x, weight=weights.reshape(1, -1), bias=bias)
    if one_class:
        return ctx.where(ctx.binary("greater", result, 0.0), 1.0, ctx.value(np.float32(-1)))
    return transformed(ctx, result, post_transform)


def similarities(
    ctx: Context, x: Value, vectors: np.ndarray, kernel: str, given: Sequence[float]
) -> Value:
    """A kernel of each row and each support vector."""
    gamma, constant, degree = (float(number) for number in given)
    products: Value = ctx.emit("linear", x=x, weight=vectors)
    match kernel:
        case "LINEAR":
            return products
        case "POLY":
            scaled = ctx.add(ctx.mul(products, gamma), constant)
            return ctx.binary("pow", scaled, degree)
        case "SIGMOID":
            return ctx.unary("tanh", ctx.add(ctx.mul(products, gamma), constant))
        case "RBF":
            own = ctx.unary("reduce_sum_square", x, axes=[1], keep_dims=True)
            lengths = ctx.add(own, np.square(vectors).sum(1, dtype=np.float32))
            distances = ctx.sub(lengths, ctx.mul(products, 2.0))
            return ctx.unary("exp", ctx.mul(distances, -gamma))
    raise ctx.unsupported(f'there is no kernel "{kernel}"')


def floats(numbers: Sequence[float]) -> np.ndarray:
    return np.asarray(numbers, np.float32)
