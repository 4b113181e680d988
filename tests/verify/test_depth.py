from metal4conv.mil.program import Block, Operation, TensorType, Value
from metal4conv.verify.depth import float16_depths
from tests.verify.fakes import function_of, operation


def test_the_longest_path_counts():
    operations = [
        operation("conv", "a", ["x"]),
        operation("relu", "b", ["a"]),
        operation("conv", "c", ["b"]),
        operation("reshape", "d", ["x"]),
        operation("add", "y", ["c", "d"]),
        operation("mul", "z", ["d", "d"]),
    ]
    assert float16_depths(function_of(operations, ["y", "z"], "float16")) == {"y": 3, "z": 1}


def test_float32_does_not_count_but_passes_on():
    operations = [
        operation("conv", "a", ["x"], "float32"),
        operation("cast", "b", ["a"], "float16"),
        operation("tanh", "y", ["b"], "float32"),
    ]
    assert float16_depths(function_of(operations, ["a", "y"], "float32")) == {"a": 0, "y": 1}


def test_an_input_may_be_an_output():
    assert float16_depths(function_of([], ["x"], "float16")) == {"x": 0}


def test_a_loop_counts_its_body_many_times():
    carried = Value("i", TensorType("float16", (1,)))
    body = Block((carried,), (operation("add", "j", ["i"]),), ("j",))
    output = Value("y", TensorType("float16", (1,)))
    loop = Operation("while_loop", "y", {"loop_vars": ("x",)}, (output,), (body,))
    first = operation("tanh", "x0", ["x"])
    depths = float16_depths(function_of([first, loop], ["y"], "float16"))
    assert depths == {"y": 16}


def test_a_branch_counts_the_deeper_one():
    blocks = (
        Block((), (operation("mul", "a", ["x0"]), operation("add", "b", ["a"])), ("b",)),
        Block((), (), ("x0",)),
    )
    output = Value("y", TensorType("float16", (1,)))
    branch = Operation("cond", "y", {"pred": ("x",)}, (output,), blocks)
    first = operation("tanh", "x0", ["x"])
    assert float16_depths(function_of([first, branch], ["y"], "float16")) == {"y": 3}
