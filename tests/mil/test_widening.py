"""Widened programs: run beside the float16 ones that they come from, and beside numpy."""

from __future__ import annotations

import numpy as np

from metal4conv.execute.interpreter import Executor
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Operation, StateType, TensorType
from metal4conv.mil.widening import holds_float16, widened, widened_interface
from tests.mil.foreign import save, tensor, toolkit


def wide_executor(package: Package) -> Executor:
    return Executor(widened(package.function()), widened_interface(package.interface()))


def float_dtypes(operations: list[Operation]) -> set[str]:
    return {
        value.type.dtype
        for operation in operations
        for value in operation.outputs
        if isinstance(value.type, TensorType) and "float" in value.type.dtype
    }


def rounding(folder) -> Package:
    """Casts to float16 by a constant of that name, weights, and a list as argument."""
    _, mb, _ = toolkit()
    weight = (np.arange(2048, dtype=np.float32) / 3).astype(np.float16).reshape(2, 1024)

    def body(x):
        a = mb.mul(x=x, y=weight)
        b = mb.cast(x=mb.cast(x=a, dtype="fp32"), dtype="fp16")
        c = mb.sub(x=mb.add(x=b, y=np.float16(2048)), y=np.float16(2048))
        return mb.concat(values=[c, np.ones((2, 1), np.float16)], axis=1)

    return read_package(save(folder, body, [tensor((2, 1024), "fp16")]))


def test_weights_stay_rounded_and_results_do_not_round(tmp_path):
    package = rounding(tmp_path)
    x = np.linspace(0, 1, 2048, dtype=np.float32).reshape(2, 1024)
    narrow = Executor.from_package(package).predict({"x": x.astype(np.float16)})
    wide = wide_executor(package).predict({"x": x})
    (name,) = wide
    weight = (np.arange(2048, dtype=np.float32) / 3).astype(np.float16).reshape(2, 1024)
    expected = x * weight.astype(np.float32)
    assert wide[name].dtype == np.float32
    np.testing.assert_allclose(wide[name][:, :-1], expected, atol=3e-4)
    assert (wide[name][:, -1] == 1).all()
    assert np.abs(narrow[name][:, :-1].astype(np.float32) - expected).max() > 0.2


def test_nothing_of_float16_is_left(tmp_path):
    function = rounding(tmp_path).function()
    found = widened(function)
    assert holds_float16(function)
    assert not holds_float16(found)
    assert float_dtypes(list(found.block.walk())) == {"float32"}
    assert [op.name for op in found.block.walk()] == [op.name for op in function.block.walk()]
    assert found.block.outputs == function.block.outputs


def test_a_float32_program_is_itself(tmp_path):
    _, mb, _ = toolkit()
    package = read_package(save(tmp_path, lambda x: mb.relu(x=x), [tensor((3,))]))
    assert widened(package.function()) is package.function()
    assert widened_interface(package.interface()) == package.interface()


def test_constants_are_read_when_they_are_used(tmp_path):
    package = rounding(tmp_path)
    found = widened(package.function())
    weights = list(package.model_folder.glob("weights/*.bin"))
    assert weights
    for file in weights:
        file.unlink()
    assert found.block.operations


def test_loops_branches_and_lists(tmp_path):
    """A value that float16 cannot reach: doubled until it is over 100,000."""
    _, mb, _ = toolkit()

    def body(x):
        one = mb.make_list(init_length=1, dtype="fp16", elem_shape=(1,), dynamic_length=False)
        held = mb.list_write(ls=one, index=0, value=x)
        grown = mb.while_loop(
            _cond=lambda y: mb.less(
                x=mb.reduce_sum(x=mb.cast(x=y, dtype="fp32"), keep_dims=False), y=100_000.0
            ),
            _body=lambda y: mb.mul(x=y, y=np.float16(2)),
            loop_vars=(mb.list_read(ls=held, index=0),),
        )
        last = grown[0] if isinstance(grown, (list, tuple)) else grown
        small = mb.less(x=mb.reduce_max(x=last, keep_dims=False), y=np.float16(7))
        return mb.cond(
            pred=small,
            _true_fn=lambda: mb.relu(x=last),
            _false_fn=lambda: mb.add(x=last, y=np.float16(0.25)),
        )

    package = read_package(save(tmp_path, body, [tensor((1,), "fp16")]))
    found = widened(package.function())
    assert float_dtypes(list(found.block.walk())) == {"float32"}
    (array,) = wide_executor(package).predict({"x": np.float32([3])}).values()
    assert array.tolist() == [3 * 2**16 + 0.25]


def test_states(tmp_path):
    """A sum that float16 stops counting at 2048."""
    _, mb, types = toolkit()

    def body(state, x):
        total = mb.add(x=mb.read_state(input=state), y=x)
        return mb.coreml_update_state(state=state, value=total)

    specs = [mb.StateTensorSpec((1,), types.fp16), tensor((1,), "fp16")]
    package = read_package(save(tmp_path, body, specs))
    function = widened(package.function())
    assert StateType(TensorType("float32", (1,))) in [item.type for item in function.inputs]
    executor = wide_executor(package)
    state = executor.make_state()
    (name,) = state
    assert state[name].dtype == np.float32
    state[name][...] = 2048
    executor.predict({"x": np.float32([1])}, state)
    assert state[name].tolist() == [2049]


def test_compressed_weights(tmp_path):
    """A table of float16 numbers gives the same numbers as float32."""
    _, mb, _ = toolkit()
    table = np.float16([0.1, 0.2, 0.3, 60000]).reshape(1, 1, 4, 1)
    indices = np.uint8([[0, 1, 2, 3], [3, 2, 1, 0]])

    def body(x):
        _, _, types = toolkit()
        packed = indices.astype(types.nptype_from_builtin(types.uint2))
        return mb.mul(x=x, y=mb.constexpr_lut_to_dense(indices=packed, lut=table))

    package = read_package(save(tmp_path, body, [tensor((2, 4), "fp16")]))
    (array,) = wide_executor(package).predict({"x": np.full((2, 4), 2, np.float32)}).values()
    np.testing.assert_array_equal(array, 2 * table.reshape(-1).astype(np.float32)[indices])
