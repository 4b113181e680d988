"""Classic models (`ai.onnx.ml`) on numbers: linear ones, trees, encoders. MIL has no strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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


# trees ---------------------------------------------------------------------------------------

MODES = {
    "BRANCH_LEQ": "less_equal",
    "BRANCH_LT": "less",
    "BRANCH_GTE": "greater_equal",
    "BRANCH_GT": "greater",
    "BRANCH_EQ": "equal",
    "BRANCH_NEQ": "not_equal",
}
"""MIL's operations for the tests of nodes."""

MODE_NUMBERS = (*MODES, "BRANCH_MEMBER")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
"""What the numbers in the attributes of `TreeEnsemble` mean."""


@dataclass(frozen=True)
class Forest:
    """Trees as arrays over all their nodes; a leaf is followed by itself."""

    modes: list[str]
    """The test of each node; that of leaves is any."""
    features: np.ndarray
    splits: np.ndarray
    follow_true: np.ndarray
    follow_false: np.ndarray
    tracks_true: np.ndarray
    """Whether NaN goes where the test holds."""
    roots: np.ndarray
    weights: np.ndarray
    """What a leaf gives to each target; NaN for nothing."""
    members: np.ndarray | None = None
    """The set of each node that tests for one, filled up with NaN."""

    @property
    def depth(self) -> int:
        """The number of tests on the longest way."""
        level, depth = set(self.roots.tolist()), 0
        while True:
            after = {
                int(child)
                for node in level
                for child in (self.follow_true[node], self.follow_false[node])
                if child != node
            }
            if not after:
                return depth
            level, depth = after, depth + 1


def leaf_scores(ctx: Context, x: Value, forest: Forest, aggregate: str) -> Value:
    """What the leaves that rows reach give, over all trees: [rows, targets].

    All trees go down a level at once: gather(features, nodes) names what each of them looks at.
    """
    count = forest.roots.size
    nodes = ctx.broadcast(
        ctx.value(forest.roots.reshape(1, -1).astype(np.int64)),
        ctx.vector([ctx.size(x, 0), count]),
    )
    for _ in range(forest.depth):
        holds = tested(ctx, x, forest, nodes)
        follow = [
            picked(ctx, array, nodes, "int64")
            for array in (forest.follow_true, forest.follow_false)
        ]
        nodes = ctx.where(holds, *follow)
    is_given = ~np.isnan(forest.weights)
    if aggregate in ("MIN", "MAX"):
        far = np.float32(np.inf if aggregate == "MIN" else -np.inf)
        weights = np.where(is_given, forest.weights, far)
        rows = picked(ctx, weights, nodes, "float32")
        operation = "reduce_min" if aggregate == "MIN" else "reduce_max"
        best = ctx.unary(operation, rows, axes=[1], keep_dims=False)
        return ctx.where(ctx.equal(ctx.unary("abs", best), np.float32(np.inf)), 0.0, best)
    rows = picked(ctx, np.where(is_given, forest.weights, 0), nodes, "float32")
    summed = ctx.unary("reduce_sum", rows, axes=[1], keep_dims=False)
    return ctx.div(summed, float(count)) if aggregate == "AVERAGE" else summed


def picked(ctx: Context, array: np.ndarray, nodes: Value, dtype: str) -> Value:
    """An array's rows at nodes."""
    result: Value = ctx.emit(
        "gather", x=ctx.value(array, dtype), indices=nodes, axis=0, dtype=dtype
    )
    return result


def tested(ctx: Context, x: Value, forest: Forest, nodes: Value) -> Value:
    """Whether the tests of nodes hold."""
    places = picked(ctx, forest.features, nodes, "int64")
    seen: Value = ctx.emit("gather_along_axis", x=x, indices=places, axis=1, dtype=x.dtype)
    splits = picked(ctx, forest.splits, nodes, "float32")
    used = list(dict.fromkeys(mode for mode in forest.modes if mode != "LEAF"))
    result: Value | None = None
    for mode in used:
        holds = is_member(ctx, seen, forest, nodes) if mode == "BRANCH_MEMBER" else None
        if holds is None:
            if mode not in MODES:
                raise ctx.unsupported(f"nodes of mode {mode}")
            holds = ctx.binary(MODES[mode], seen, splits)
        if result is None:
            result = holds
            continue
        own = np.asarray([item == mode for item in forest.modes])
        is_own = ctx.equal(picked(ctx, own, nodes, "int32"), 1)
        result = ctx.where(is_own, holds, result)
    assert result is not None
    if forest.tracks_true.any():
        tracks = ctx.equal(picked(ctx, forest.tracks_true, nodes, "int32"), 1)
        is_nan = ctx.binary("not_equal", seen, seen)
        result = ctx.binary("logical_or", result, ctx.binary("logical_and", is_nan, tracks))
    return result


def is_member(ctx: Context, seen: Value, forest: Forest, nodes: Value) -> Value:
    """Whether what nodes look at is in their sets."""
    assert forest.members is not None
    sets = picked(ctx, forest.members, nodes, "float32")
    hits = ctx.cast(ctx.equal(ctx.expand_dims(seen, [2]), sets), "int32")
    return ctx.equal(ctx.emit("reduce_max", x=hits, axes=[2], keep_dims=False), 1)


@dataclass(frozen=True)
class Listed:
    """A forest as the attributes of the older operators list it."""

    tree_ids: list[int]
    node_ids: list[int]
    modes: list[str]
    features: list[int]
    splits: np.ndarray
    follow_true: list[int]
    follow_false: list[int]
    tracks_true: list[int]
    leaf_trees: list[int]
    leaf_nodes: list[int]
    leaf_targets: list[int]
    leaf_weights: np.ndarray

    def forest(self, targets: int) -> Forest:
        """The forest as arrays; a tree's first node is its root."""
        numbers = {
            key: place for place, key in enumerate(zip(self.tree_ids, self.node_ids, strict=True))
        }
        own = np.arange(len(self.modes))
        is_leaf = np.asarray([mode == "LEAF" for mode in self.modes])

        def followed(children: list[int]) -> np.ndarray:
            pairs = zip(self.tree_ids, children, is_leaf, own, strict=True)
            return np.asarray(
                [me if leaf else numbers[tree, child] for tree, child, leaf, me in pairs]
            )

        weights = np.full((len(self.modes), targets), np.nan, np.float32)
        for tree, node, target, weight in zip(
            self.leaf_trees, self.leaf_nodes, self.leaf_targets, self.leaf_weights, strict=True
        ):
            place = numbers[tree, node], target
            weights[place] = weight + (0 if np.isnan(weights[place]) else weights[place])
        roots = {tree: place for place, tree in reversed(list(enumerate(self.tree_ids)))}
        tracks = self.tracks_true or [0] * len(self.modes)
        return Forest(
            self.modes,
            np.where(is_leaf, 0, self.features),
            self.splits,
            followed(self.follow_true),
            followed(self.follow_false),
            np.asarray(tracks),
            np.asarray(sorted(roots.values())),
            weights,
        )


def numbers_of(numbers: Numbers, tensor: Tensor | None) -> np.ndarray:
    """Numbers from a list or a tensor."""
    given = tensor.array if tensor is not None else np.asarray(numbers or [])
    return given.astype(np.float32)


@ONNX_OPS("ai.onnx.ml.TreeEnsembleRegressor", since=1)
def tree_ensemble_regressor(
    ctx: Context,
    X: Value,
    *,
    aggregate_function: str = "SUM",
    base_values: Numbers = None,
    base_values_as_tensor: Tensor | None = None,
    n_targets: int = 1,
    nodes_falsenodeids: Integers = None,
    nodes_featureids: Integers = None,
    nodes_hitrates: Numbers = None,
    nodes_hitrates_as_tensor: Tensor | None = None,
    nodes_missing_value_tracks_true: Integers = None,
    nodes_modes: Strings = None,
    nodes_nodeids: Integers = None,
    nodes_treeids: Integers = None,
    nodes_truenodeids: Integers = None,
    nodes_values: Numbers = None,
    nodes_values_as_tensor: Tensor | None = None,
    post_transform: str = "NONE",
    target_ids: Integers = None,
    target_nodeids: Integers = None,
    target_treeids: Integers = None,
    target_weights: Numbers = None,
    target_weights_as_tensor: Tensor | None = None,
) -> Value:
    """What the trees' leaves give to each target, aggregated, and the base values."""
    listed = Listed(
        nodes_treeids or [],
        nodes_nodeids or [],
        nodes_modes or [],
        nodes_featureids or [],
        numbers_of(nodes_values, nodes_values_as_tensor),
        nodes_truenodeids or [],
        nodes_falsenodeids or [],
        nodes_missing_value_tracks_true or [],
        target_treeids or [],
        target_nodeids or [],
        target_ids or [],
        numbers_of(target_weights, target_weights_as_tensor),
    )
    x = ctx.cast(X, "float32")
    scores = leaf_scores(ctx, x, listed.forest(n_targets), aggregate_function)
    base = numbers_of(base_values, base_values_as_tensor)
    return transformed(ctx, ctx.add(scores, base) if base.size else scores, post_transform)


@ONNX_OPS("ai.onnx.ml.TreeEnsembleClassifier", since=1)
def tree_ensemble_classifier(
    ctx: Context,
    X: Value,
    *,
    base_values: Numbers = None,
    base_values_as_tensor: Tensor | None = None,
    class_ids: Integers = None,
    class_nodeids: Integers = None,
    class_treeids: Integers = None,
    class_weights: Numbers = None,
    class_weights_as_tensor: Tensor | None = None,
    classlabels_int64s: Integers = None,
    classlabels_strings: Strings = None,
    nodes_falsenodeids: Integers = None,
    nodes_featureids: Integers = None,
    nodes_hitrates: Numbers = None,
    nodes_hitrates_as_tensor: Tensor | None = None,
    nodes_missing_value_tracks_true: Integers = None,
    nodes_modes: Strings = None,
    nodes_nodeids: Integers = None,
    nodes_treeids: Integers = None,
    nodes_truenodeids: Integers = None,
    nodes_values: Numbers = None,
    nodes_values_as_tensor: Tensor | None = None,
    post_transform: str = "NONE",
) -> tuple[Value, Value]:
    """The label with the highest score, and the scores of all.

    Leaves that all give to one of two classes give its score; the other class has what is left
    to 1 where no weight is negative, else the negative score.
    """
    if not classlabels_int64s:
        raise ctx.unsupported("the labels are strings, which a MIL program cannot hold")
    labels = classlabels_int64s
    weights = numbers_of(class_weights, class_weights_as_tensor)
    listed = Listed(
        nodes_treeids or [],
        nodes_nodeids or [],
        nodes_modes or [],
        nodes_featureids or [],
        numbers_of(nodes_values, nodes_values_as_tensor),
        nodes_truenodeids or [],
        nodes_falsenodeids or [],
        nodes_missing_value_tracks_true or [],
        class_treeids or [],
        class_nodeids or [],
        class_ids or [],
        weights,
    )
    x = ctx.cast(X, "float32")
    base = numbers_of(base_values, base_values_as_tensor)
    scores = leaf_scores(ctx, x, listed.forest(len(labels)), "SUM")
    only = set(class_ids or [])
    if len(labels) != 2 or len(only) != 1:
        scores = ctx.add(scores, base) if base.size else scores
        return label_of(ctx, scores, labels), transformed(ctx, scores, post_transform)
    place = only.pop()
    score = ctx.slice_axis(scores, 1, place, place + 1)
    score = ctx.add(score, float(base[-1])) if base.size else score
    is_share = bool((weights >= 0).all())
    is_second = ctx.binary("greater", score, 0.5 if is_share else 0.0)
    chosen = ctx.where(is_second, ctx.value(np.int64(labels[1])), ctx.value(np.int64(labels[0])))
    other = ctx.sub(1.0, score) if is_share else ctx.sub(0.0, score)
    both = ctx.concat([other, score], 1)
    return ctx.squeeze(chosen, [1]), transformed(ctx, both, post_transform)


@ONNX_OPS("ai.onnx.ml.TreeEnsemble", since=5)
def tree_ensemble(
    ctx: Context,
    X: Value,
    *,
    aggregate_function: int = 1,
    leaf_targetids: list[int],
    leaf_weights: Tensor,
    membership_values: Tensor | None = None,
    n_targets: int = 1,
    nodes_falseleafs: list[int],
    nodes_falsenodeids: list[int],
    nodes_featureids: list[int],
    nodes_hitrates: Tensor | None = None,
    nodes_missing_value_tracks_true: Integers = None,
    nodes_modes: Tensor,
    nodes_splits: Tensor,
    nodes_truenodeids: list[int],
    nodes_trueleafs: list[int],
    post_transform: int = 0,
    tree_roots: list[int],
) -> Value:
    """What the trees' leaves give to each target; leaves are counted apart from nodes."""
    count, leaves = len(nodes_featureids), len(leaf_targetids)
    own = np.arange(count, count + leaves)

    def followed(children: list[int], are_leaves: list[int]) -> np.ndarray:
        given = np.asarray(children) + count * np.asarray(are_leaves)
        return np.concatenate([given, own])

    modes = [MODE_NUMBERS[int(number)] for number in nodes_modes.array.reshape(-1)]
    weights = np.full((count + leaves, n_targets), np.nan, np.float32)
    weights[own, leaf_targetids] = leaf_weights.array.reshape(-1)
    nothing = np.zeros(leaves)
    tracks = nodes_missing_value_tracks_true or [0] * count
    forest = Forest(
        [*modes, *["LEAF"] * leaves],
        np.concatenate([nodes_featureids, nothing]),
        np.concatenate([nodes_splits.array.reshape(-1), nothing]).astype(np.float32),
        followed(nodes_truenodeids, nodes_trueleafs),
        followed(nodes_falsenodeids, nodes_falseleafs),
        np.concatenate([tracks, nothing]),
        np.asarray(tree_roots),
        weights,
        None if membership_values is None else sets_of(modes, membership_values.array, leaves),
    )
    scores = leaf_scores(ctx, ctx.cast(X, "float32"), forest, AGGREGATES[aggregate_function])
    return transformed(ctx, scores, TRANSFORMS[post_transform])


def sets_of(modes: Sequence[str], values: np.ndarray, leaves: int) -> np.ndarray:
    """The sets of nodes that test for one, which stand one behind the other with NaN between."""
    groups: list[list[Any]] = [[]]
    for number in values.reshape(-1).tolist():
        if number != number:  # NaN ends a set
            groups.append([])
        else:
            groups[-1].append(number)
    width = max(map(len, groups))
    table = np.full((len(modes) + leaves, width), np.nan, np.float32)
    given = iter(groups)
    for place, mode in enumerate(modes):
        if mode == "BRANCH_MEMBER":
            group = next(given)
            table[place, : len(group)] = group
    return table
