"""Programs of every family on a GPU: the numbers of the CPU, and nothing left behind on it.

Without a GPU the same programs run on tensors that have a device but no data, which refuse to meet
tensors of another device. Needs torch, numpy and coremltools alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import types
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from metal4conv.execute.devices import running_on
from metal4conv.execute.interpreter import Executor
from metal4conv.execute.marshal import TORCH_DTYPES, constant_tensor
from metal4conv.execute.plan import make_plan
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Constant, StateType

# coremltools leaves its temporary folder to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

CUDA = torch.device("cuda:0")
RANDOM = np.random.default_rng(3)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@dataclass(frozen=True)
class Case:
    """A program of inputs by name, and what they are."""

    program: Callable[..., Any]
    inputs: Mapping[str, np.ndarray]
    only_gpu: bool = False
    """Whether it needs data, or a call that torch built without CUDA refuses on any such tensor."""
    precisions: tuple[str, ...] = ("float32", "float16")


CASES: dict[str, Case] = {}


def case(
    only_gpu: bool = False,
    precisions: tuple[str, ...] = Case.precisions,
    **inputs: np.ndarray,
) -> Callable[..., Any]:
    """Registers a program under its function's name."""

    def register(program: Callable[..., Any]) -> Callable[..., Any]:
        CASES[program.__name__] = Case(program, inputs, only_gpu, precisions)
        return program

    return register


IMAGE = normal(2, 4, 8, 9)
INDICES = np.array([2, 0, 1], np.int32)


@case(x=IMAGE)
def activations(x):
    y = mb.prelu(x=mb.leaky_relu(x=x, alpha=0.1), alpha=np.array([1, 2, 3, 4], np.float32))
    y = mb.softplus_parametric(x=y, alpha=np.ones(4, np.float32), beta=np.ones(4, np.float32))
    return mb.softmax(x=mb.gelu(x=mb.thresholded_relu(x=y, alpha=0.2)), axis=1)


@case(x=IMAGE)
def elementwise(x):
    y = mb.log(x=mb.square(x=mb.sin(x=x)), epsilon=1e-3)
    z = mb.cast(x=mb.mul(x=x, y=100.0), dtype="int32")
    z = mb.mod(x=mb.floor_div(x=z, y=7), y=5)
    return mb.add(x=y, y=mb.cast(x=z, dtype="fp32")), mb.greater(x=x, y=0.5)


@case(x=IMAGE)
def convolutions(x):
    y = mb.conv(x=x, weight=normal(6, 4, 3, 3), bias=normal(6), pad_type="same", strides=[2, 2])
    y = mb.conv(x=y, weight=normal(6, 1, 3, 3), groups=6, pad_type="custom", pad=[1, 0, 2, 1])
    return mb.conv_transpose(x=y, weight=normal(6, 3, 2, 2), strides=[2, 2])


@case(x=IMAGE)
def pools(x):
    options = {"kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom", "pad": [1, 0, 1, 1]}
    average = mb.avg_pool(x=x, exclude_padding_from_average=True, **options)
    open_end = mb.avg_pool(
        x=x, kernel_sizes=[3, 3], strides=[2, 2], pad_type="valid", ceil_mode=True
    )
    return average, open_end, mb.max_pool(x=x, **options), mb.l2_pool(x=x, **options)


@case(x=IMAGE)
def normalizations(x):
    y = mb.batch_norm(x=x, mean=np.zeros(4, np.float32), variance=np.ones(4, np.float32))
    y = mb.instance_norm(x=y, gamma=np.ones(4, np.float32), beta=np.zeros(4, np.float32))
    y = mb.local_response_norm(x=mb.l2_norm(x=y), size=3)
    return mb.layer_norm(x=y, axes=[1, 2])


@case(x=normal(3, 5), y=normal(2, 5, 4))
def products(x, y):
    z = mb.matmul(x=mb.linear(x=x, weight=normal(5, 5), bias=normal(5)), y=y)
    scores = mb.einsum(values=[normal(3, 2, 3, 4), normal(3, 4, 3, 5)], equation="nchw,nwhu->nchu")
    return z, scores


@case(x=np.array([[1, 2, 3], [4, 5, 6]], np.int32), y=np.array([[1, 2], [3, 4], [5, 6]], np.int32))
def integer_products(x, y):
    return mb.matmul(x=x, y=y), mb.matmul(x=y, y=x)


@case(x=IMAGE)
def reductions(x):
    total = mb.reduce_sum(x=x, axes=[1, 3])
    return (
        total,
        mb.reduce_log_sum_exp(x=x),
        mb.reduce_argmax(x=x, axis=1),
        mb.reduce_prod(x=x, axes=[2]),
    )


@case(x=IMAGE, i=INDICES)
def gathers(x, i):
    y = mb.gather(x=x, indices=i, axis=2)
    along = mb.gather_along_axis(x=y, indices=np.zeros((2, 4, 1, 9), np.int32), axis=2)
    return y, along, mb.gather_nd(x=x, indices=np.array([[0, 1], [1, 3]], np.int32))


@case(x=normal(4, 5), i=INDICES, u=normal(3, 5))
def scatters(x, i, u):
    y = mb.scatter(data=x, indices=i, updates=u, axis=0, mode="add")
    z = mb.scatter_nd(data=y, indices=np.array([[0, 1], [3, 2]], np.int32), updates=normal(2))
    return mb.scatter_along_axis(
        data=z,
        indices=np.array([[1, 0, 2, 3, 1]] * 4, np.int32),
        updates=normal(4, 5),
        axis=0,
        mode="mul",
    )


@case(x=IMAGE)
def resizes(x):
    half = mb.resize_bilinear(
        x=x, target_size_height=5, target_size_width=7, sampling_mode="ALIGN_CORNERS"
    )
    near = mb.resize_nearest_neighbor(x=x, target_size_height=11, target_size_width=6)
    up = mb.upsample_bilinear(x=x, scale_factor_height=2, scale_factor_width=2)
    resized = mb.resize(
        x=x,
        shape=[5, 20],
        resized_dims=np.uint32(2),
        interpolation_mode="NEAREST_NEIGHBOR",
        sampling_mode="OFFSET_CORNERS",
    )
    return half, near, mb.upsample_nearest_neighbor(x=up, scale_factor_height=2), resized


@case(only_gpu=True, x=IMAGE)
def samplers(x):
    crops = mb.crop_resize(
        x=x,
        boxes=np.array([[1, 1, 6, 7], [0, 2, 5, 9]], np.float32),
        target_height=4,
        target_width=5,
        sampling_mode="ALIGN_CORNERS",
    )
    moved = mb.affine(
        x=x,
        transform_matrix=np.array([[1, 0.1, 0, 0, 1, 0.2]] * 2, np.float32),
        output_height=6,
        output_width=7,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    )
    return crops, moved


@case(only_gpu=True, x=IMAGE)
def shapes(x):
    size = mb.shape(x=x)
    rows = mb.gather(x=size, indices=2, axis=0)
    flat = mb.reshape(
        x=x, shape=mb.concat(values=[[2], mb.expand_dims(x=rows, axes=[0]), [-1]], axis=0)
    )
    counted = mb.range_1d(start=0, end=rows, step=1)
    padded = mb.pad(x=x, pad=[1, 2, 3, 0], mode="reflect")
    return flat, counted, padded, mb.cast(x=size, dtype="fp32")


@case(only_gpu=True, x=IMAGE)
def moves(x):
    y = mb.slice_by_index(x=x, begin=[0, 3, 7, 8], end=[2, 0, 0, 0], stride=[1, -1, -2, -1])
    z = mb.slice_update(
        x=y, update=np.zeros((2, 1, 4, 8), np.float32), begin=[0, 0, 0, 0], end=[2, 1, 4, 8]
    )
    y = mb.band_part(x=z, lower=1, upper=2)
    parts = mb.split(x=mb.tile(x=y, reps=[1, 2, 1, 1]), num_splits=2, axis=1)
    return mb.concat(values=parts, axis=1, interleave=True), mb.cumsum(x=x, axis=2, exclusive=True)


@case(x=normal(3, 6))
def orders(x):
    values, indices = mb.topk(x=x, k=3, axis=1)
    hot = mb.one_hot(
        indices=mb.argsort(x=x, axis=1), one_hot_vector_size=6, on_value=2, off_value=3
    )
    return values, indices, hot


@case(x=normal(2, 3))
def fills(x):
    full = mb.fill(shape=mb.shape(x=x), value=2.0)
    return mb.add(x=x, y=full), mb.add(x=x, y=mb.fill_like(ref_tensor=x, value=1.0))


@case(x=normal(2, 3))
def randoms(x):
    drawn = mb.random_uniform(shape=mb.shape(x=x), low=0.0, high=1.0, seed=7)
    bells = mb.random_normal(shape=mb.shape(x=x), mean=0.0, stddev=1.0, seed=8)
    picked = mb.random_categorical(x=x, size=4, seed=9)
    coins = mb.random_bernoulli(shape=mb.shape(x=x), prob=0.5, seed=10)
    return mb.add(x=x, y=drawn), mb.add(x=bells, y=coins), picked


@case(x=normal(5, 2, 3))
def recurrences(x):
    h = mb.lstm(
        x=x,
        initial_h=np.zeros((2, 8), np.float32),
        initial_c=np.zeros((2, 8), np.float32),
        weight_ih=normal(16, 3),
        weight_hh=normal(16, 4),
        weight_ih_back=normal(16, 3),
        weight_hh_back=normal(16, 4),
        direction="bidirectional",
        output_sequence=True,
    )[0]
    g = mb.gru(
        x=h,
        initial_h=np.zeros((2, 4), np.float32),
        weight_ih=normal(12, 8),
        weight_hh=normal(12, 4),
        output_sequence=True,
    )[0]
    return mb.rnn(
        x=g, initial_h=np.zeros((2, 3), np.float32), weight_ih=normal(3, 4), weight_hh=normal(3, 3)
    )[0]


@case(q=normal(2, 3, 4), k=normal(2, 5, 4), v=normal(2, 5, 4))
def attention(q, k, v):
    mask = np.tril(np.ones((3, 5), bool))
    return mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=mask)


# coremltools cannot round constants of constexpr operations to float16
@case(only_gpu=True, precisions=("float32",), x=normal(4, 8))
def compressed(x):
    table = mb.constexpr_lut_to_dense(
        indices=RANDOM.integers(0, 4, (6, 8)).astype(types.np_uint2_dtype),
        lut=normal(2, 1, 4, 1),
    )
    scaled = mb.constexpr_blockwise_shift_scale(
        data=RANDOM.integers(-8, 8, (6, 6)).astype(types.np_int4_dtype),
        scale=normal(6, 1),
    )
    mask = (RANDOM.random((6, 6)) > 0.5).astype(types.np_uint1_dtype)
    sparse = mb.constexpr_sparse_to_dense(nonzero_data=normal(int(mask.sum())), mask=mask)
    y = mb.linear(x=mb.linear(x=mb.linear(x=x, weight=table), weight=scaled), weight=sparse)
    quantized = mb.quantize(input=y, scale=0.1, output_dtype="int8")
    return mb.dequantize(input=quantized, scale=0.1)


@case(only_gpu=True, boxes=np.abs(normal(1, 4, 6)) + 1, scores=normal(1, 2, 6))
def suppression(boxes, scores):
    return mb.non_maximum_suppression(boxes=boxes, scores=scores, iou_threshold=0.3, max_boxes=4)


@case(only_gpu=True, x=normal(4), n=np.array([3], np.int32))
def loop_with_list(x, n):
    ls = mb.make_list(init_length=1, elem_shape=(4,), dtype="fp32")

    def again(i, total, ls):
        return mb.less(x=i, y=mb.squeeze(x=n))

    def body(i, total, ls):
        total = mb.mul(x=total, y=1.5)
        return mb.add(x=i, y=1), total, mb.list_write(ls=ls, index=i, value=total)

    count, total, ls = mb.while_loop(_cond=again, _body=body, loop_vars=(np.int32(0), x, ls))
    stacked = mb.list_gather(ls=ls, indices=mb.range_1d(start=0, end=mb.list_length(ls=ls), step=1))
    chosen = mb.cond(
        pred=mb.less(x=count, y=2),
        _true_fn=lambda: mb.add(x=x, y=1.0),
        _false_fn=lambda: mb.sub(x=x, y=1.0),
    )
    return stacked, total, chosen


@case(only_gpu=True, x=normal(3, 4))
def data_dependent(x):
    return mb.non_zero(x=mb.greater(x=x, y=0.0))


@pytest.fixture(scope="module")
def package_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Package]:
    """A case as a package with this precision; each is made once."""
    folder = tmp_path_factory.mktemp("cuda")
    made: dict[tuple[str, str], Package] = {}

    def make(name: str, precision: str) -> Package:
        if (name, precision) not in made:
            path = folder / f"{name}_{precision}.mlpackage"
            write_package(CASES[name], precision, path)
            made[name, precision] = read_package(path)
        return made[name, precision]

    return make


def write_package(case: Case, precision: str, path: Path) -> None:
    kinds = {"float32": types.fp32, "int32": types.int32}
    specs = [
        mb.TensorSpec(shape=array.shape, dtype=kinds[array.dtype.name])
        for array in case.inputs.values()
    ]
    program = mb.program(input_specs=specs, opset_version=ct.target.iOS18)(case.program)
    wanted = {"float16": ct.precision.FLOAT16, "float32": ct.precision.FLOAT32}[precision]
    pipeline = ct.PassPipeline.DEFAULT
    pipeline.remove_passes({"common::const_elimination"})
    ct.convert(
        program,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=wanted,
        skip_model_load=True,
        pass_pipeline=pipeline,
    ).save(str(path))


@pytest.mark.parametrize("name", [name for name in CASES if not CASES[name].only_gpu])
def test_all_tensors_of_a_run_share_the_device(
    name: str, package_of: Callable[[str, str], Package]
) -> None:
    function = package_of(name, "float32").function()
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def materialize(constant: Constant) -> torch.Tensor:
        return mode.from_tensor(constant_tensor(constant)).to(CUDA)

    with mode, running_on(CUDA):
        plan = make_plan(function, materialize)
        arguments: list[Any] = []
        for value, array in zip(function.inputs, CASES[name].inputs.values(), strict=True):
            assert not isinstance(value.type, StateType)
            dtype = TORCH_DTYPES[value.type.dtype]
            arguments.append(torch.empty(array.shape, dtype=dtype, device=CUDA))
        results = plan.run({}, arguments)
    tensors = [item for item in results if isinstance(item, torch.Tensor)]
    assert tensors
    assert {item.device for item in tensors} == {CUDA}
    assert all(isinstance(item, FakeTensor) for item in tensors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, precision) for name, item in CASES.items() for precision in item.precisions],
)
def test_gpu_gives_what_the_cpu_gives(
    name: str, precision: str, package_of: Callable[[str, str], Package]
) -> None:
    package = package_of(name, precision)
    declared = [item.name for item in package.interface().inputs]
    inputs = dict(zip(declared, CASES[name].inputs.values(), strict=True))
    expected = Executor.from_package(package).predict(inputs)
    found = Executor.from_package(package, device="cuda").predict(inputs)
    assert found.keys() == expected.keys()
    # float16 rounds once on both; sums in another order may round to the neighbour at each step
    tolerance = 1e-4 if precision == "float32" else 1e-2
    for key, array in expected.items():
        assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape)
        np.testing.assert_allclose(found[key], array, rtol=tolerance, atol=tolerance)


def test_precision_settings_are_given_back() -> None:
    torch.set_float32_matmul_precision("high")
    try:
        with running_on(CUDA):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
