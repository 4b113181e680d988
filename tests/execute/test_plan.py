"""Plans: what is prepared once, what is freed when, what is refused, and what a trace shows."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.execute import plan as plans
from metal4conv.execute.interpreter import Executor
from metal4conv.execute.marshal import constant_tensor
from metal4conv.execute.plan import Plan, make_plan
from metal4conv.execute.step import Place, Step, Values, Watch
from metal4conv.mil.package import Package
from metal4conv.mil.program import Block, Constant, Function, Operation, TensorType, Value
from tests.layout.packages import PackageBuilder


def chain(length: int, dtype: str = "float32") -> PackageBuilder:
    """`x` (4,), then `length` additions of 1; the last one is `y`."""
    build = PackageBuilder()
    build.input("x", dtype, (4,))
    build.literal("one", dtype, (), [1.0])
    name = "x"
    for number in range(length):
        output = "y" if number == length - 1 else f"v{number}"
        name = build.operation("add", output, dtype, (4,), {"x": [name], "y": ["one"]})
    build.output("y", dtype)
    return build


def diamond() -> PackageBuilder:
    """`x` (4,) float32; a = relu(x), b = a + a, c = b * a, y = c + b; `b` is an output as well."""
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    rows = [("relu", "a", ["x"]), ("add", "b", ["a", "a"]), ("mul", "c", ["b", "a"])]
    for type, output, names in [*rows, ("add", "y", ["c", "b"])]:
        inputs = {key: [name] for key, name in zip("xy", names, strict=False)}
        build.operation(type, output, "float32", (4,), inputs)
    build.output("y", "float32")
    build.output("b", "float32")
    return build


def executor(build: PackageBuilder, folder: Path, **options: Any) -> Executor:
    """The package, written and loaded."""
    return Executor.from_package(build.write(folder / "net.mlpackage"), **options)


X = np.array([-1, 0, 1, 2], np.float32)


def live_after_each_step(plan: Plan, *inputs: Any) -> list[set[str]]:
    """The names of the values that a plan holds after each of its steps."""
    values: Values = {}
    return [set(values) - set(plan.constants) for _ in plan.advance(values, inputs)]


def test_values_are_freed_after_their_last_use(tmp_path: Path) -> None:
    plan = executor(diamond(), tmp_path).plan
    live = live_after_each_step(plan, torch.from_numpy(X))
    assert live == [{"x", "a"}, {"x", "a", "b"}, {"x", "b", "c"}, {"x", "b", "y"}]


def test_a_chain_holds_two_values_at_a_time(tmp_path: Path) -> None:
    plan = executor(chain(50), tmp_path).plan
    seen: list[weakref.ref[torch.Tensor]] = []
    peaks = []

    def see(step: Step, values: Values, place: Place) -> None:
        assert place == ()
        seen.append(weakref.ref(values[step.outputs[0]]))
        peaks.append(sum(tensor() is not None for tensor in seen))

    for _ in plan.advance({}, [torch.from_numpy(X)], Watch(see)):
        pass
    assert len(seen) == 50
    assert max(peaks) == 2  # the operation's input and its output


def test_a_value_that_nobody_reads_is_freed_at_once(tmp_path: Path) -> None:
    build = diamond()
    build.operation("relu", "unused", "float32", (4,), {"x": ["c"]})
    plan = executor(build, tmp_path).plan
    assert live_after_each_step(plan, torch.from_numpy(X))[-1] == {"x", "b", "y"}


def test_weights_are_not_freed(tmp_path: Path) -> None:
    loaded = executor(chain(3), tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(loaded.predict({"x": X})["y"], X + 3)


def value(name: str, dtype: str = "float32", shape: tuple[int, ...] = (4,)) -> Value:
    return Value(name, TensorType(dtype, shape))


def test_a_value_that_a_nested_block_reads_stays_until_then() -> None:
    inner = Operation("add", "s", {"x": ("a",), "y": ("b",)}, (value("s"),))
    other = Operation("sub", "d", {"x": ("a",), "y": ("b",)}, (value("d"),))
    blocks = (Block((), (inner,), ("s",)), Block((), (other,), ("d",)))
    operations = (
        Operation("relu", "a", {"x": ("x",)}, (value("a"),)),
        Operation("square", "b", {"x": ("a",)}, (value("b"),)),
        Operation("relu", "c", {"x": ("b",)}, (value("c"),)),
        Operation("cond", "y", {"pred": ("p",)}, (value("y"),), blocks),
        Operation("relu", "z", {"x": ("y",)}, (value("z"),)),
    )
    inputs = (value("x"), value("p", "bool", ()))
    plan = make_plan(Function("main", "CoreML8", inputs, Block((), operations, ("z",))))
    for flag, expected in ((True, [0, 0, 2, 6]), (False, [0, 0, 0, 0])):
        given = torch.from_numpy(X), torch.tensor(flag)
        live = [names - {"x", "p"} for names in live_after_each_step(plan, *given)]
        assert live == [{"a"}, {"a", "b"}, {"a", "b"}, {"y"}, {"z"}]
        (found,) = plan.run({}, given)
        assert found.tolist() == expected


def test_constants_are_prepared_once() -> None:
    loads = []

    def load() -> np.ndarray:
        loads.append(1)
        return np.ones(4, np.float32)

    constant = Constant(TensorType("float32", (4,)), load)
    operations = [Operation("const", "w", {}, (value("w"),), attributes={"val": constant})]
    name = "x"
    for number in range(5):
        inputs = {"x": (name,), "y": ("w",)}
        operations.append(Operation("add", f"v{number}", inputs, (value(f"v{number}"),)))
        name = f"v{number}"
    block = Block((), tuple(operations), (name,))
    prepared = []

    def materialize(constant: Constant) -> torch.Tensor:
        prepared.append(constant_tensor(constant))
        return prepared[-1]

    plan = make_plan(Function("main", "CoreML8", (value("x"),), block), materialize)
    before = len(prepared)
    for _ in range(3):
        (found,) = plan.run({}, [torch.from_numpy(X)])
        np.testing.assert_array_equal(found.numpy(), X + 5)
    assert len(loads) == 1
    assert len(prepared) == before
    # one array serves all operations
    assert len({tensor.data_ptr() for tensor in prepared}) == 1


def test_what_depends_on_constants_alone_is_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.literal("w", "float32", (4,), [1.0, 2.0, 3.0, 4.0])
    build.operation("square", "w2", "float32", (4,), {"x": ["w"]})
    build.operation("exp2", "w3", "float32", (4,), {"x": ["w2"]})
    build.operation("add", "y", "float32", (4,), {"x": ["x"], "y": ["w3"]})
    build.output("y", "float32")
    calls = []
    run = Step.run

    def counted(self: Step, values: Values, watch: Watch | None = None) -> None:
        calls.append(self.operation.type)
        run(self, values, watch)

    monkeypatch.setattr(Step, "run", counted)
    loaded = executor(build, tmp_path)
    assert calls == ["square", "exp2"]
    assert list(loaded.plan.constants) == ["w3"]  # what only they needed is dropped
    for _ in range(2):
        found = loaded.predict({"x": X})["y"]
        np.testing.assert_array_equal(found, X + np.float32([2, 16, 512, 65536]))
    assert calls == ["square", "exp2", "add", "add"]


def test_random_numbers_are_not_computed_once(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.literal("shape", "int32", (1,), [4])
    build.operation("random_normal", "r", "float32", (4,), {"shape": ["shape"]})
    build.operation("add", "y", "float32", (4,), {"x": ["x"], "y": ["r"]})
    build.output("y", "float32")
    loaded = executor(build, tmp_path)
    assert [step.operation.type for step in loaded.plan.steps] == ["random_normal", "add"]


def test_thousands_of_operations_in_a_row(tmp_path: Path) -> None:
    loaded = executor(chain(3000), tmp_path)
    assert len(loaded.plan.steps) == 3000
    np.testing.assert_array_equal(loaded.predict({"x": X})["y"], X + 3000)
    assert sum(1 for _ in loaded.trace({"x": X})) == 3000


def test_the_work_of_planning_grows_with_the_program_not_its_square(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = []
    used_names = plans.used_names

    def counted(steps: Any, outputs: Any) -> set[str]:
        looked_at.append(len(steps))
        return used_names(steps, outputs)

    monkeypatch.setattr(plans, "used_names", counted)
    work = []
    for length in (100, 200):
        looked_at.clear()
        folder = tmp_path / str(length)
        folder.mkdir()
        executor(chain(length), folder)
        work.append(sum(looked_at))
    assert work[0] > 0
    assert work[1] <= 2.1 * work[0]


def two_inputs() -> PackageBuilder:
    """`color` (1, 3, h, w) float16 with ranges, `steps` (2,) int32; `y` is the color's relu."""
    build = PackageBuilder()
    shape = (1, 3, (4, 8), (4, 16))
    build.input("color", "float16", shape, default=(1, 3, 4, 4))
    build.input("steps", "int32", (2,))
    build.operation("relu", "y", "float16", (1, 3, "h", "w"), {"x": ["color"]})
    build.output("y", "float16")
    return build


COLOR = np.ones((1, 3, 4, 5), np.float16)
STEPS = np.array([1, 2], np.int32)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Executor:
    return executor(two_inputs(), tmp_path_factory.mktemp("two"))


REFUSED: dict[str, tuple[dict[str, np.ndarray], list[str]]] = {
    "unknown name": (
        {"colour": COLOR, "steps": STEPS},
        ['no input "colour"', 'did you mean "color"?'],
    ),
    "missing": ({"color": COLOR}, ['input "steps" is missing', "int32"]),
    "rank too low": ({"color": COLOR[0], "steps": STEPS}, ['"color"', "(3, 4, 5)", "expected 4"]),
    "rank too high": ({"color": COLOR[None], "steps": STEPS}, ['"color"', "5 dimensions"]),
    "rank 0": ({"color": np.float16(1), "steps": STEPS}, ['"color"', "0 dimensions"]),
    "fixed size": (
        {"color": np.ones((1, 4, 4, 5), np.float16), "steps": STEPS},
        ['input "color", dimension 1', "size 4, expected 3"],
    ),
    "size below the range": (
        {"color": COLOR[:, :, :3], "steps": STEPS},
        ['input "color", dimension 2', "size 3", "4..8@4"],
    ),
    "size above the range": (
        {"color": np.ones((1, 3, 4, 17), np.float16), "steps": STEPS},
        ['input "color", dimension 3', "size 17", "4..16@4"],
    ),
    "no elements": (
        {"color": COLOR[:, :, :0], "steps": STEPS},
        ['input "color", dimension 2', "size 0"],
    ),
    "floats as integers": (
        {"color": COLOR, "steps": STEPS.astype(np.float32)},
        ['input "steps" has dtype float32, expected int32', "astype('int32')"],
    ),
    "integers too large": (
        {"color": COLOR, "steps": np.array([0, 2**31])},
        ['input "steps"', "2147483648", "int32 cannot hold"],
    ),
    "complex": (
        {"color": COLOR.astype(np.complex64), "steps": STEPS},
        ['input "color" has dtype complex64, expected float16'],
    ),
    "strings": (
        {"color": COLOR, "steps": np.array(["a", "b"])},
        ['input "steps" has dtype <U1, expected int32'],
    ),
    "objects": (
        {"color": COLOR, "steps": np.array([1, None], object)},
        ['input "steps" cannot be read as an array', "expected int32[2]"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_that_do_not_fit_are_refused(case: str, loaded: Executor) -> None:
    inputs, words = REFUSED[case]
    with pytest.raises(UsageError) as caught:
        loaded.predict(inputs)
    for word in words:
        assert word in str(caught.value)


def test_inputs_that_fit_are_converted(loaded: Executor) -> None:
    for color in (COLOR.astype(np.float64), COLOR.astype(np.uint8), np.asfortranarray(COLOR)):
        for steps in (STEPS.astype(np.int64), [1, 2], np.array([True, False])):
            found = loaded.predict({"color": color, "steps": steps})["y"]
            assert found.dtype == np.float16
            np.testing.assert_array_equal(found, COLOR)


def test_inputs_are_not_changed(loaded: Executor) -> None:
    color, steps = -COLOR, STEPS.copy()
    loaded.predict({"color": color, "steps": steps})
    np.testing.assert_array_equal(color, -COLOR)
    np.testing.assert_array_equal(steps, STEPS)


def test_outputs_do_not_share_memory_with_inputs_or_weights(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.literal("w", "float32", (4,), [1.0, 2.0, 3.0, 4.0])
    build.operation("identity", "y", "float32", (4,), {"x": ["x"]})
    build.operation("identity", "z", "float32", (4,), {"x": ["w"]})
    build.output("y", "float32")
    build.output("z", "float32")
    loaded = executor(build, tmp_path)
    x = X.copy()
    first = loaded.predict({"x": x})
    for array in first.values():
        array[...] = 100
    np.testing.assert_array_equal(x, X)
    for _, arrays in loaded.trace({"x": x}):
        for array in arrays.values():
            array[...] = 100
    second = loaded.predict({"x": x})
    np.testing.assert_array_equal(second["y"], X)
    np.testing.assert_array_equal(second["z"], [1, 2, 3, 4])


def package_of(build: PackageBuilder, folder: Path) -> Package:
    return build.write(folder / "net.mlpackage")


def test_unknown_operations_are_named_all_at_once(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.operation("fold_paper", "a", "float32", (4,), {"x": ["x"]})
    build.operation("relu", "b", "float32", (4,), {"x": ["a"]})
    build.operation("unfold_paper", "y", "float32", (4,), {"x": ["b"]})
    build.output("y", "float32")
    package = package_of(build, tmp_path)
    with pytest.raises(UnsupportedModel) as caught:
        Executor.from_package(package)
    assert "2 kinds of operations cannot be run here: fold_paper, unfold_paper" in str(caught.value)
    assert caught.value.where == ("a (fold_paper)", "y (unfold_paper)")


@pytest.mark.parametrize(
    ("type", "inputs", "message"),
    [
        ("add", {"x": ["x"]}, "operation bad (add) lacks its input y"),
        ("relu", {"x": ["x"], "slope": ["x"]}, 'bad (relu) has an input "slope" that is not known'),
        ("matmul", {"x": ["x"], "y": ["w"]}, "operation bad (matmul) failed: "),
        ("reshape", {"x": ["x"], "shape": ["w"]}, "operation bad (reshape)"),
    ],
)
def test_errors_name_the_operation(
    type: str, inputs: dict[str, list[str]], message: str, tmp_path: Path
) -> None:
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.literal("w", "int32", (3,), [5, 6, 7])
    build.operation("relu", "good", "float32", (4,), {"x": ["x"]})
    build.operation(type, "bad", "float32", (4,), inputs)
    build.output("bad", "float32")
    package = package_of(build, tmp_path)
    with pytest.raises(UnsupportedModel) as caught:
        Executor.from_package(package).predict({"x": X})
    assert message in str(caught.value)


def test_an_operation_newer_than_the_program_is_named(tmp_path: Path) -> None:
    build = diamond()
    build.operation("constexpr_cast", "s", "float32", (4,), {"x": ["b"]})
    blocks = build.function.block_specializations
    blocks["CoreML5"].CopyFrom(blocks["CoreML8"])
    build.function.opset = "CoreML5"
    package = package_of(build, tmp_path)
    with pytest.raises(UnsupportedModel) as caught:
        Executor.from_package(package)
    assert "constexpr_cast exists from version 16 on, not in 15" in str(caught.value)
    assert "in operation s (constexpr_cast)" in str(caught.value)


def test_a_bug_keeps_its_type_and_gets_the_operation_as_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = executor(diamond(), tmp_path)

    def broken(**_: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(loaded.plan.steps[2], "function", broken)
    with pytest.raises(ZeroDivisionError) as caught:
        loaded.predict({"x": X})
    assert caught.value.__notes__ == ["while running c (mul)"]


def test_a_trace_shows_the_outputs_of_each_operation(tmp_path: Path) -> None:
    loaded = executor(diamond(), tmp_path)
    found = [(str(operation), arrays) for operation, arrays in loaded.trace({"x": X})]
    a = np.float32([0, 0, 1, 2])
    b = np.float32([0, 0, 2, 4])
    c = np.float32([0, 0, 2, 8])
    y = np.float32([0, 0, 4, 12])
    expected = [("a (relu)", "a", a), ("b (add)", "b", b), ("c (mul)", "c", c), ("y (add)", "y", y)]
    assert [operation for operation, _ in found] == [operation for operation, _, _ in expected]
    for (_, arrays), (_, name, array) in zip(found, expected, strict=True):
        assert list(arrays) == [name]
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(arrays[name], array)


def test_a_trace_of_an_operation_with_several_outputs(tmp_path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float16", (4,))
    build.literal("axis", "int32", (), [0])
    build.literal("count", "int32", (), [2])
    build.operation(
        "split", "l", "float16", (2,), {"x": ["x"], "num_splits": ["count"], "axis": ["axis"]}
    )
    second = build.block.operations[-1].outputs.add()
    second.CopyFrom(build.block.operations[-1].outputs[0])
    second.name = "r"
    build.output("r", "float16")
    ((_, arrays),) = executor(build, tmp_path).trace({"x": X})
    assert {name: array.tolist() for name, array in arrays.items()} == {"l": [-1, 0], "r": [1, 2]}
    assert {array.dtype.name for array in arrays.values()} == {"float16"}


def test_a_trace_stops_where_it_is_left(tmp_path: Path) -> None:
    loaded = executor(chain(10), tmp_path)
    trace = loaded.trace({"x": X})
    _, arrays = next(trace)
    np.testing.assert_array_equal(arrays["v0"], X + 1)
    trace.close()
    np.testing.assert_array_equal(loaded.predict({"x": X})["y"], X + 10)


def test_a_trace_refuses_the_same_inputs_as_predict(loaded: Executor) -> None:
    with pytest.raises(UsageError, match='input "steps" is missing'):
        next(iter(loaded.trace({"color": COLOR})))
