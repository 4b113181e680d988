"""Trees and forests of ai.onnx.ml: every row walks down, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.operators.ml import Integers, Numbers, Strings, label_of, transformed
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.tensors import Tensor
from metal4conv.frontends.onnx.value import Value

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
