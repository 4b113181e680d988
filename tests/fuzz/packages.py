"""The sound packages that are mutated: tiny, and between them most of what a package can hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.frontends.toolkit import quiet
from metal4conv.mil.package import read_package
from metal4conv.mil.schema import deterministic_bytes
from tests.mil.foreign import converted, pipeline, save, tensor, toolkit

RANDOM = np.random.default_rng(0)


def weights(*shape: int, dtype: str = "float32") -> np.ndarray:
    """Random weights; those of 10 elements and more come to lie in the weight file."""
    return RANDOM.standard_normal(shape).astype(dtype)


def picture(folder: Path) -> Path:
    """A convolutional network for pictures of several sizes."""
    ct, mb, _ = toolkit()
    from coremltools.converters.mil.mil import get_new_symbol

    def body(x: Any) -> Any:
        y = mb.conv(x=x, weight=weights(8, 3, 3, 3), bias=weights(8), pad_type="same")
        y = mb.batch_norm(x=y, mean=weights(8), variance=np.abs(weights(8)))
        y = mb.leaky_relu(x=y, alpha=0.1)
        z = mb.max_pool(x=y, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")
        z = mb.upsample_nearest_neighbor(x=z, scale_factor_height=2, scale_factor_width=2)
        z = mb.conv_transpose(x=z, weight=weights(8, 4, 2, 2), pad_type="valid")
        z = mb.reduce_mean(x=z, axes=[2, 3], keep_dims=True)
        y = mb.pixel_shuffle(x=y, upscale_factor=2)
        y = mb.add(x=y, y=mb.reduce_sum(x=z, axes=[1], keep_dims=True))
        return mb.clip(x=y, alpha=0.0, beta=1.0, name="y")

    size = get_new_symbol()
    height = ct.RangeDim(2, 16, default=4, symbol="h")
    inputs = [ct.TensorType("x", (1, 3, height, 6))]
    return save(folder, body, [tensor((1, 3, size, 6))], inputs=inputs)


def sizes(folder: Path) -> Path:
    """Arithmetic on sizes, gathers and slices, as language models have it; in float16."""
    ct, mb, _ = toolkit()
    from coremltools.converters.mil.mil import get_new_symbol

    def body(tokens: Any) -> Any:
        x = mb.gather(x=weights(20, 8), indices=tokens, axis=0, validate_indices=True)
        shape = mb.shape(x=x)
        length = mb.gather(x=shape, indices=[1], axis=0)
        wanted = mb.concat(values=[[1], mb.mul(x=length, y=[2]), [4]], axis=0)
        y = mb.layer_norm(x=x, axes=[-1], gamma=weights(8), beta=weights(8))
        y = mb.linear(x=y, weight=weights(8, 8), bias=weights(8))
        y = mb.reshape(x=y, shape=wanted)
        y = mb.matmul(x=y, y=y, transpose_y=True)
        y = mb.softmax(x=y, axis=-1)
        y = mb.slice_by_index(x=y, begin=[0, 0, 0], end=[0, -1, 0], end_mask=[True, False, True])
        rest = mb.range_1d(start=0, end=mb.squeeze(x=length), step=1)
        mask = mb.less(x=rest, y=2)
        first, second = mb.split(x=x, num_splits=2, axis=2)
        second = mb.select(cond=mb.expand_dims(x=mask, axes=[0, 2]), a=first, b=second)
        best, where = mb.topk(x=second, k=2, axis=-1)
        where = mb.cast(x=where, dtype="fp32")
        return (
            mb.transpose(x=y, perm=[0, 2, 1], name="y"),
            mb.concat(values=[best, where], axis=2, name="z"),
        )

    specs = [tensor((1, get_new_symbol()), "int32")]
    length = ct.RangeDim(2, 9, default=3, symbol="t")
    inputs = [ct.TensorType("tokens", (1, length), dtype=np.int32)]
    return save(folder, body, specs, inputs=inputs, compute_precision=ct.precision.FLOAT16)


def control(folder: Path) -> Path:
    """Nested blocks: a condition, a loop, lists."""
    _, mb, _ = toolkit()

    def body(x: Any, n: Any) -> Any:
        many = mb.greater(x=mb.reduce_sum(x=x, axes=[0, 1]), y=0.0)
        y = mb.cond(
            pred=many,
            _true_fn=lambda: mb.relu(x=x),
            _false_fn=lambda: mb.mul(x=mb.exp(x=x), y=weights(2, 6)),
        )
        rows = mb.make_list(init_length=2, elem_shape=(2, 6), dynamic_length=True, dtype="fp32")

        def step(i: Any, z: Any, rows: Any) -> Any:
            z = mb.add(x=z, y=weights(2, 6))
            return mb.add(x=i, y=1), z, mb.list_write(ls=rows, index=i, value=z)

        last = mb.minimum(x=mb.squeeze(x=n), y=3)
        _, z, rows = mb.while_loop(
            _cond=lambda i, z, rows: mb.less(x=i, y=last), _body=step, loop_vars=(0, y, rows)
        )
        kept = mb.list_gather(ls=rows, indices=[0, 1])
        return mb.stack(values=[z, y], axis=0, name="y"), mb.tanh(x=kept, name="z")

    return save(folder, body, [tensor((2, 6)), tensor((1,), "int32")])


def compressed(folder: Path) -> Path:
    """Weights of a few bits: with tables, with scales by block, sparse, and both."""
    _, mb, types = toolkit()
    narrow = types.nptype_from_builtin(types.string_to_builtin("uint4"))
    signed = types.nptype_from_builtin(types.string_to_builtin("int4"))
    single = types.nptype_from_builtin(types.string_to_builtin("uint1"))

    def body(x: Any) -> Any:
        indices = RANDOM.integers(0, 16, (8, 8)).astype(narrow)
        table = mb.constexpr_lut_to_dense(indices=indices, lut=weights(2, 1, 16, 1))
        data = RANDOM.integers(-8, 8, (8, 8)).astype(signed)
        scaled = mb.constexpr_blockwise_shift_scale(
            data=data, scale=weights(4, 2), offset=RANDOM.integers(-8, 8, (4, 2)).astype(signed)
        )
        mask = RANDOM.integers(0, 2, (8, 8))
        count = int(mask.sum())
        mask = mask.astype(single)
        sparse = mb.constexpr_sparse_to_dense(nonzero_data=weights(count), mask=mask)
        both = mb.constexpr_lut_to_sparse(
            indices_mask=mask,
            indices_nonzero_data=RANDOM.integers(0, 16, count).astype(narrow),
            lut=weights(1, 1, 16, 1),
        )
        joint = mb.constexpr_sparse_to_dense(nonzero_data=both[1], mask=both[0])
        for weight in (table, scaled, sparse, joint):
            x = mb.linear(x=x, weight=weight)
        return mb.identity(x=x, name="y")

    return save(folder, body, [tensor((3, 8))])


def packed(folder: Path) -> Path:
    """The compressed weights of iOS16, whose bits stand in bytes."""
    _, mb, _ = toolkit()

    def body(x: Any) -> Any:
        table = mb.constexpr_lut_to_dense(
            indices=RANDOM.integers(0, 256, 32, np.uint8),
            lut=weights(16),
            shape=np.array([8, 8], np.uint32),
        )
        scaled = mb.constexpr_affine_dequantize(
            quantized_data=RANDOM.integers(0, 256, (8, 8), np.uint8),
            zero_point=RANDOM.integers(0, 256, 8, np.uint8),
            scale=weights(8),
            axis=0,
        )
        mask = RANDOM.integers(0, 256, 8, np.uint8)
        sparse = mb.constexpr_sparse_to_dense(
            nonzero_data=weights(int(np.unpackbits(mask).sum())),
            mask=mask,
            shape=np.array([8, 8], np.uint32),
        )
        for weight in (table, scaled, sparse):
            x = mb.linear(x=x, weight=weight)
        return mb.identity(x=x, name="y")

    return save(folder, body, [tensor((3, 8))], "iOS16")


def stateful(folder: Path) -> Path:
    """A state that each call reads and updates, and attention."""
    _, mb, types = toolkit()

    def body(x: Any, total: Any) -> Any:
        before = mb.read_state(input=total)
        after = mb.add(x=before, y=x)
        after = mb.coreml_update_state(state=total, value=after)
        y = mb.scaled_dot_product_attention(query=x, key=after, value=after)
        return mb.silu(x=y, name="y")

    shape = (1, 2, 4, 8)
    state = mb.StateTensorSpec(shape, dtype=types.fp16)
    return save(folder, body, [tensor(shape, "fp16"), state])


def recurrent(folder: Path) -> Path:
    """Recurrent layers."""
    _, mb, _ = toolkit()

    def body(x: Any) -> Any:
        zero = np.zeros((1, 4), np.float32)
        y, h, _ = mb.lstm(
            x=x,
            initial_h=np.zeros((1, 8), np.float32),
            initial_c=np.zeros((1, 8), np.float32),
            weight_ih=weights(16, 5),
            weight_hh=weights(16, 4),
            weight_ih_back=weights(16, 5),
            weight_hh_back=weights(16, 4),
            direction="bidirectional",
            output_sequence=True,
        )
        z, _ = mb.gru(
            x=y,
            initial_h=zero,
            weight_ih=weights(12, 8),
            weight_hh=weights(12, 4),
            output_sequence=True,
        )
        return mb.identity(x=z, name="y"), mb.identity(x=h, name="h")

    return save(folder, body, [tensor((3, 1, 5))])


def geometry(folder: Path) -> Path:
    """Operations with many sizes, indices and modes."""
    _, mb, _ = toolkit()

    def body(x: Any) -> Any:
        y = mb.resize_bilinear(
            x=x, target_size_height=5, target_size_width=7, sampling_mode="UNALIGN_CORNERS"
        )
        y = mb.pad(x=y, pad=[0, 0, 0, 0, 1, 1, 2, 2], mode="reflect")
        y = mb.avg_pool(
            x=y, kernel_sizes=[2, 3], pad_type="same", exclude_padding_from_average=True
        )
        box = np.array([[[0.0, 0.0, 0.5, 0.5]]], np.float32).reshape(1, 4)
        crop = mb.crop_resize(
            x=x,
            boxes=box,
            box_indices=np.array([0], np.int32),
            target_height=3,
            target_width=2,
            normalized_coordinates=True,
        )
        turned = mb.affine(
            x=x,
            transform_matrix=weights(1, 6),
            output_height=3,
            output_width=3,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=0.0,
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        )
        flat = mb.reshape(x=x, shape=[-1])
        picked = mb.gather_nd(x=flat, indices=RANDOM.integers(0, 16, (12, 1)).astype(np.int32))
        spread = mb.scatter(
            data=flat, indices=np.arange(12, dtype=np.int32), updates=picked, axis=0, mode="add"
        )
        spread = mb.tile(x=mb.cumsum(x=spread, axis=0), reps=[2])
        noise = mb.random_uniform(shape=[2, 3], low=0.0, high=1.0, seed=1)
        ones = mb.fill(shape=[4, 3], value=2.0)
        hot = mb.one_hot(indices=mb.argsort(x=ones, axis=0), one_hot_vector_size=4)
        found = mb.non_zero(x=mb.cast(x=hot, dtype="fp32"))
        boxes, scores, *_ = mb.non_maximum_suppression(
            boxes=np.abs(weights(1, 6, 4)),
            scores=weights(1, 6, 2),
            iou_threshold=0.5,
            max_boxes=4,
        )
        sums = [
            mb.reduce_sum(x=mb.cast(x=item, dtype="fp32"), axes=None, keep_dims=False)
            for item in (crop, turned, spread, noise, hot, found, boxes, scores)
        ]
        joined = mb.stack(values=sums, axis=0)
        bands = mb.band_part(x=y, lower=1, upper=-1)
        return mb.identity(x=bands, name="y"), mb.erf(x=joined, name="z")

    return save(folder, body, [tensor((1, 1, 4, 4))])


def row(folder: Path) -> Path:
    """A pipeline: a network that takes a picture, then a classifier of what that gives."""
    ct, mb, _ = toolkit()

    def smooth(x: Any) -> Any:
        y = mb.mul(x=mb.sub(x=x, y=weights(1, 3, 1, 1)), y=0.5)
        kernel = np.full((3, 1, 3, 3), 1 / 9, np.float32)
        return mb.conv(x=y, weight=kernel, groups=3, pad_type="same", name="h")

    def classify(h: Any) -> Any:
        means = mb.reduce_mean(x=h, axes=[2, 3])
        return mb.softmax(x=mb.linear(x=means, weight=weights(4, 3)), axis=-1, name="p")

    shape = (1, 3, 4, 6)
    first = converted(
        smooth,
        [tensor(shape)],
        inputs=[ct.ImageType("x", shape, color_layout=ct.colorlayout.RGB)],
    )
    second = converted(
        classify,
        [tensor(shape)],
        classifier_config=ct.ClassifierConfig(["a", "b", "c", "d"]),
        pass_pipeline=ct.PassPipeline.DEFAULT,  # it writes the labels
    )
    return pipeline(folder, first, second)


PACKAGES: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (picture, sizes, control, compressed, packed, stateful, recurrent, geometry, row)
}


def make_packages(folder: Path) -> None:
    """All of them, each in a folder with its name."""
    for name, make in PACKAGES.items():
        place = folder / name
        place.mkdir(parents=True)
        RANDOM.bit_generator.state = np.random.default_rng(0).bit_generator.state
        with quiet():
            package = make(place)
        settle(package)
        package.rename(folder / f"{name}.mlpackage")
        place.rmdir()


def settle(package: Path) -> None:
    """Makes the files the same each time: maps in order, plain names in the manifest.

    A seed names a mutation of these bytes; coremltools writes them differently each time.
    """
    found = read_package(package)
    (found.model_folder / "model.mlmodel").write_bytes(deterministic_bytes(found.spec))
    file = package / "Manifest.json"
    manifest = json.loads(file.read_text())
    entries = sorted(manifest["itemInfoEntries"].values(), key=lambda entry: str(entry["path"]))
    root = next(n for n, entry in enumerate(entries) if entry["path"].endswith(".mlmodel"))
    manifest["itemInfoEntries"] = {f"entry {n}": entry for n, entry in enumerate(entries)}
    manifest["rootModelIdentifier"] = f"entry {root}"
    file.write_text(json.dumps(manifest, indent=4, sort_keys=True))
