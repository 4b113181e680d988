"""PyTorch sources of every kind, made small here, opened, lowered, and run against the module."""

from __future__ import annotations

import sys
import textwrap
from collections import namedtuple
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.export import Dim

from metal4conv import load
from metal4conv.errors import UnsupportedModel, UntrustedFile, UsageError
from metal4conv.frontends.source import Lowered, LoweringRequest, ModelSource
from metal4conv.frontends.toolkit import quiet
from tests.frontends.helpers import assert_outputs, draw, packaged, source

Pair = namedtuple("Pair", ["mean", "spread"])


class Net(torch.nn.Module):
    """A module whose forward is a function that the test brings along."""

    def __init__(self, function: Any, **parts: torch.nn.Module | torch.Tensor) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def exported(
    folder: Path, module: torch.nn.Module, *examples: torch.Tensor, lower: bool = False, **more: Any
) -> Path:
    """A `.pt2` of a module; in core operations if it is lowered, else in the training dialect."""
    with quiet():
        program = torch.export.export(module.eval(), examples, strict=False, **more)
        if lower:
            program = program.run_decompositions({})
        torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


def traced(folder: Path, module: torch.nn.Module, *examples: torch.Tensor) -> Path:
    """A TorchScript file of a module."""
    with quiet():
        torch.jit.trace(module.eval(), examples, strict=False).save(folder / "net.pt")
    return folder / "net.pt"


def check(
    opened: ModelSource,
    module: torch.nn.Module,
    folder: Path,
    sizes: dict[str, int] | None = None,
    inputs: dict[str, np.ndarray] | None = None,
    tolerance: float = 1e-5,
) -> Lowered:
    """The package, and the opened source too, give what the module itself gives."""
    inputs = inputs or draw(opened, sizes)
    with torch.inference_mode():
        results = module.eval()(**{name: torch.from_numpy(row) for name, row in inputs.items()})
    flat = torch.utils._pytree.tree_leaves(results)
    wanted = {
        name: value.to(torch.float32 if value.is_floating_point() else torch.int32).numpy()
        for name, value in zip(opened.outputs, flat, strict=True)
    }
    assert_outputs(opened.predict(inputs), wanted, tolerance)
    package, lowered = packaged(opened, folder)
    # a Metal tensor has at least one dimension
    at_border = {name: np.atleast_1d(array) for name, array in wanted.items()}
    assert_outputs(load(package).predict(inputs), at_border, tolerance)
    return lowered


def codes(lowered: Lowered) -> list[str]:
    """The codes of the findings of a conversion."""
    return [finding.code for finding in lowered.findings]


@pytest.mark.parametrize("lower", [False, True])
def test_dialects_of_exported_programs(lower, tmp_path):
    """In the training dialect batch norm and dropout stand in the program as they do in code."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5), torch.nn.ReLU()
    )
    module[1].running_mean.uniform_(-1, 1)
    module[1].running_var.uniform_(0.5, 2)
    path = exported(tmp_path, module, torch.rand(1, 3, 8, 8), lower=lower)
    opened = source(path)
    kinds = {str(node.target) for node in opened.program.graph.nodes}
    assert ("aten.batch_norm.default" in kinds, "aten.dropout.default" in kinds) == (
        not lower,
        not lower,
    )
    assert [item.name for item in opened.inputs] == ["input"]
    assert [str(item.type) for item in opened.inputs] == ["float32[1, 3, 8, 8]"]
    check(opened, module, tmp_path)


class Bounds(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Paired(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> Bounds:
        return Bounds(x.amin(1), x.amax(1))


@pytest.fixture
def registered_pair():
    """torch.export.save wants to know a named tuple's class; so does loading."""
    torch.utils._pytree._register_namedtuple(Pair, serialized_type_name="tests.Pair")
    yield
    torch.utils._pytree._deregister_pytree_node(Pair)


@pytest.mark.parametrize(
    ("results", "names"),
    [
        (lambda self, x: {"low": x.min(), "peak-2": x.max(1).values}, ("low", "peak_2")),
        (lambda self, x: Pair(x.mean(1), x.std(1)), ("mean", "spread")),
        (lambda self, x: (x + 1, x.sum(0)), ("output_0", "output_1")),
        (lambda self, x: [x + 1], ("output",)),
        (lambda self, x: x.exp(), ("output",)),
        (lambda self, x: x.mean(), ("output",)),
    ],
    ids=["dict", "namedtuple", "tuple", "list of one", "tensor", "scalar"],
)
@pytest.mark.parametrize("kind", ["exported", "TorchScript"])
@pytest.mark.usefixtures("registered_pair")
def test_names_and_shapes_of_outputs(results, names, kind, tmp_path):
    module = Net(results)
    if kind == "exported":
        opened = source(exported(tmp_path, module, torch.rand(3, 4)))
    else:
        opened = source(traced(tmp_path, module, torch.rand(3, 4)), inputs=["x:3x4"])
        if names == Pair._fields:
            names = ("output_0", "output_1")  # tracing makes it a plain tuple
    assert opened.outputs == names
    check(opened, module, tmp_path)


def test_class_that_only_the_exporter_knew_is_named(tmp_path):
    """The file is sound, so it is not called damaged."""
    known = namedtuple("Known", ["one", "other"])
    torch.utils._pytree._register_namedtuple(known, serialized_type_name="studio.Known")
    path = exported(tmp_path, Net(lambda self, x: known(x, x + 1)), torch.rand(3, 4))
    torch.utils._pytree._deregister_pytree_node(known)
    with pytest.raises(UnsupportedModel, match=r"studio\.Known, a class that is not") as caught:
        source(path)
    assert "dictionary" in str(caught.value)


def test_scripted_named_tuple_keeps_its_names(tmp_path):
    with quiet():
        torch.jit.script(Paired()).save(tmp_path / "net.pt")
    opened = source(tmp_path / "net.pt", inputs=["x:3x4"])
    assert opened.outputs == ("low", "high")
    check(opened, Paired(), tmp_path)


class Mixed(torch.nn.Module):
    """Takes and gives each dtype that no Metal tensor holds."""

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, x: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        chosen = torch.where(mask, x[ids], -x)
        return {"chosen": chosen, "positive": chosen > 0, "next": ids + 1}


CASTS = ["int64-input-cast", "bool-input-cast", "bool-output-cast"]


@pytest.mark.parametrize("kind", ["exported", "TorchScript"])
def test_bool_and_int64_are_cast_inside(kind, tmp_path):
    examples = (torch.tensor([2, 0, 1]), torch.tensor([True, False, True]), torch.rand(3))
    module = Mixed()
    if kind == "exported":
        opened = source(exported(tmp_path, module, *examples))
    else:
        shapes = ["ids:3:int64:0..2", "mask:3:bool", "x:3"]
        opened = source(traced(tmp_path, module, *examples), inputs=shapes)
    assert [str(item.type) for item in opened.inputs] == ["int64[3]", "bool[3]", "float32[3]"]
    inputs = {name: row.numpy() for name, row in zip(("ids", "mask", "x"), examples, strict=True)}
    lowered = check(opened, module, tmp_path, inputs=inputs)
    assert codes(lowered) == CASTS
    assert lowered.findings[0].where == "ids"
    found = load(tmp_path / "net.mlpackage").predict(inputs)
    assert {name: row.dtype.name for name, row in found.items()} == {
        "chosen": "float32",
        "positive": "int32",
        "next": "int32",
    }


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["exported", "TorchScript", "factory"])
def test_small_float_weights(kind, dtype, tmp_path):
    """The package in float32 gives what the same weights give in float32."""
    name = str(dtype).removeprefix("torch.")
    path = factory(tmp_path, SMALL.format(dtype=name))
    small = source(path).module  # which is float32 by now, as its weights are exact in both
    small.to(dtype)
    example = torch.rand(2, 8).to(dtype)
    if kind == "exported":
        path = exported(tmp_path, small, example)
    if kind == "TorchScript":
        path = traced(tmp_path, small, example)
    opened = source(path, inputs=[] if kind != "TorchScript" else ["x:2x8"])
    package, _ = packaged(opened, tmp_path)
    inputs = draw(opened)
    with torch.inference_mode():
        wanted = small.float()(torch.from_numpy(inputs["x"]).float())
    found = load(package).predict(inputs)["output"]
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-5)


SMALL = """
class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(8, 16)
        self.last = torch.nn.Linear(16, 4)
        self.register_buffer("scale", torch.rand(16))

    def forward(self, x):
        return self.last(torch.relu(self.first(x)) * self.scale)

def make():
    torch.manual_seed(0)
    return Small().to(torch.{dtype}), torch.rand(2, 8).to(torch.{dtype})
"""


def test_buffers_and_constants(tmp_path):
    """Buffers, those that are not saved too, and tensors made while exporting are constants."""
    module = Net(lambda self, x: (x - self.mean) * self.scale + torch.tensor([1.0, 2.0, 3.0]))
    module.register_buffer("mean", torch.rand(3))
    module.register_buffer("scale", torch.rand(3), persistent=False)
    opened = source(exported(tmp_path, module, torch.rand(2, 3)))
    assert [item.name for item in opened.inputs] == ["x"]
    check(opened, module, tmp_path)


@pytest.mark.parametrize("lower", [False, True], ids=["training dialect", "core operations"])
def test_changed_buffer_is_refused(lower, tmp_path):
    def count(self, x):
        self.calls.add_(1)
        return x * self.calls

    module = Net(count)
    module.register_buffer("calls", torch.zeros(1))
    path = exported(tmp_path, module, torch.rand(3), lower=lower)
    with pytest.raises(UnsupportedModel, match="changes 1 of its buffers") as caught:
        source(path).lower(LoweringRequest(), tmp_path)
    assert "return the new values as outputs" in str(caught.value)


@pytest.mark.parametrize("lower", [False, True], ids=["training dialect", "core operations"])
def test_changed_input_is_refused(lower, tmp_path):
    path = exported(tmp_path, Net(lambda self, x: x.mul_(2) + 1), torch.rand(3), lower=lower)
    with pytest.raises(UnsupportedModel, match="changes 1 of its buffers or inputs"):
        source(path).lower(LoweringRequest(), tmp_path)


def test_changed_buffer_of_a_factory_is_refused(tmp_path):
    code = """
    class Counter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            return x * self.calls

    def make():
        return Counter(), torch.rand(3)
    """
    with pytest.raises(UnsupportedModel, match="changes 1 of its buffers"):
        source(factory(tmp_path, code)).lower(LoweringRequest(), tmp_path)


def factory(folder: Path, code: str, name: str = "nets.py") -> str:
    """A Python file with the code, as the source of what its `make` returns."""
    (folder / name).write_text("import torch\n" + textwrap.dedent(code))
    return f"{folder / name}:make"


@pytest.fixture(autouse=True)
def fresh_imports(monkeypatch):
    """What a test imports from its own folder is forgotten after it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("nets", "studio"):
            del sys.modules[name]


ADD = """
class Add(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Linear(4, 4)

    def forward(self, left, right):
        return self.scale(left) - right

"""


@pytest.mark.parametrize(
    ("returned", "inputs"),
    [
        ("Add()", ["left:2x4", "right:2x4"]),
        ("Add(), (torch.rand(2, 4), torch.rand(2, 4))", []),
        ("Add(), {'right': torch.rand(2, 4), 'left': torch.rand(2, 4)}", []),
        ("Add(), torch.rand(2, 4)", ["right:2x4"]),
        ("Add(), (torch.rand(1, 4), torch.rand(1, 4))", ["left:2x4", "right:2x4"]),
    ],
    ids=["module", "tuple", "dict", "tensor for the first", "other sizes than the examples'"],
)
def test_what_a_factory_may_return(returned, inputs, tmp_path):
    path = factory(tmp_path, f"{ADD}def make():\n    return {returned}\n")
    opened = source(path, inputs=inputs)
    assert (opened.kind, opened.framework, opened.name) == ("factory", "pytorch", "make")
    assert opened.files == (tmp_path / "nets.py",)
    assert [f"{item.name} {item.type}" for item in opened.inputs] == [
        "left float32[2, 4]",
        "right float32[2, 4]",
    ]
    check(opened, opened.module, tmp_path)


def test_dict_of_examples_for_some_inputs(tmp_path):
    """Examples go to the inputs that they name, not to the first ones."""
    code = f"{ADD}def make():\n    return Add(), {{'right': torch.rand(3, 4)}}\n"
    opened = source(factory(tmp_path, code), inputs=["left:1x4"])
    assert [str(item.type) for item in opened.inputs] == ["float32[1, 4]", "float32[3, 4]"]
    check(opened, opened.module, tmp_path)


def test_dotted_factory(tmp_path, monkeypatch):
    """A dotted name is found from the current folder; the package's files are inputs too."""
    (tmp_path / "studio").mkdir()
    factory(tmp_path / "studio", ADD, "layers.py")
    (tmp_path / "studio" / "__init__.py").touch()
    (tmp_path / "studio" / "nets.py").write_text(
        "from studio.layers import Add\n\ndef make():\n    return Add()\n"
    )
    monkeypatch.chdir(tmp_path)
    opened = source("studio.nets:make", inputs=["left:2x4", "right:4"])
    files = [Path("studio") / name for name in ("__init__.py", "layers.py", "nets.py")]
    assert list(opened.files) == files
    check(opened, opened.module, tmp_path)
    with pytest.raises(UsageError, match='did you mean "make"'):
        source("studio.nets:maker")


@pytest.mark.parametrize(
    ("suffix", "nested"), [(".safetensors", False), (".pt", False), (".pth", True)]
)
def test_weights_of_a_factory(suffix, nested, tmp_path):
    path = factory(tmp_path, f"{ADD}def make():\n    return Add(), torch.rand(2, 4)\n")
    state = {"scale.weight": torch.eye(4) * 2, "scale.bias": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    weights = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, weights)
    else:
        torch.save({"state_dict": state, "epoch": 3} if nested else state, weights)
    opened = source(path, inputs=["right:2x4"], weights=weights)
    assert opened.files == (tmp_path / "nets.py", weights)
    inputs = draw(opened)
    package, _ = packaged(opened, tmp_path)
    wanted = inputs["left"] * 2 + np.float32([1, 2, 3, 4]) - inputs["right"]
    np.testing.assert_allclose(load(package).predict(inputs)["output"], wanted, rtol=1e-6)


class Payload:
    """An object that runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


GOOD = {"scale.weight": torch.eye(4), "scale.bias": torch.zeros(4)}


@pytest.mark.parametrize(
    ("state", "error", "words"),
    [
        ({**GOOD, "scale.bias": torch.zeros(5)}, UsageError, ["scale.bias", "[5]", "[4]"]),
        ({"scale.bias": torch.zeros(4)}, UsageError, ["missing: scale.weight", "1 of its tensors"]),
        ({**GOOD, "head": torch.zeros(1)}, UsageError, ["not in the module: head"]),
        ([torch.zeros(1)], UsageError, ["holds list", "state dict"]),
        (None, UsageError, ["no such file"]),
    ],
    ids=["shape", "missing", "unexpected", "list", "no file"],
)
def test_weights_that_do_not_fit(state, error, words, tmp_path):
    path = factory(tmp_path, f"{ADD}def make():\n    return Add()\n")
    if state is not None:
        torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(error) as caught:
        source(path, weights=tmp_path / "weights.pt")
    for word in ["weights.pt", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("where", ["--weights", "model"])
def test_pickle_with_code_is_refused_and_not_run(where, tmp_path):
    weights = tmp_path / "weights.pt"
    torch.save({**GOOD, "x": Payload(tmp_path / "ran")}, weights)
    path = factory(tmp_path, f"{ADD}def make():\n    return Add()\n")
    with pytest.raises(UntrustedFile, match=r"weights\.pt"):
        source(path, weights=weights) if where == "--weights" else source(weights)
    assert not (tmp_path / "ran").exists()


def test_example_for_an_unknown_input(tmp_path):
    code = f"{ADD}def make():\n    return Add(), {{'rigth': torch.rand(3, 4)}}\n"
    with pytest.raises(UsageError, match='"rigth", which the module does not take') as caught:
        source(factory(tmp_path, code), inputs=["left:3x4"])
    assert 'did you mean "right"' in str(caught.value)


FLAT = """
class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(4 * 6, 2)

    def forward(self, x):
        tall = x.mean(1)
        return self.head(tall.reshape(1, 4 * 6))

class Grid(torch.nn.Module):
    def forward(self, x):
        return x + torch.arange(4.0).reshape(4, 1) + torch.arange(6.0)

def make():
    return Flat()

def grid():
    return Grid()
"""


@pytest.mark.parametrize(
    ("name", "shape", "dims", "message"),
    [
        ("make", "x:1xcx4xw", ["c=1..8@3", "w=2..16@6"], 'dimension "w": it works only with w=6'),
        ("grid", "x:1xcxhxw", ["c=1..8@3", "h=2..9@4", "w=2..16@6"], 'dimensions "h", "w"'),
    ],
    ids=["one of two", "both"],
)
def test_frozen_dimension_is_named(name, shape, dims, message, tmp_path):
    path = factory(tmp_path, FLAT).replace(":make", f":{name}")
    with pytest.raises(UnsupportedModel) as caught:
        source(path, inputs=[shape], dims=dims)
    assert message in str(caught.value)
    assert 'dimension "c"' not in str(caught.value)


def test_default_that_the_model_does_not_take(tmp_path):
    dims = ["w=2..16@8"]
    with pytest.raises(UnsupportedModel) as caught:
        source(factory(tmp_path, FLAT), inputs=["x:1x3x4xw"], dims=dims)
    assert "cannot be exported with w=8" in str(caught.value)
    assert "nets.py:10: return self.head(tall.reshape(1, 4 * 6))" in str(caught.value)


UNET = """
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv2d(3, 4, 8, stride=8)
        self.up = torch.nn.ConvTranspose2d(4, 3, 8, stride=8)

    def forward(self, color):
        return color + self.up(torch.relu(self.down(color)))

def make():
    torch.manual_seed(0)
    return Net()
"""


def test_range_with_a_step(tmp_path):
    """A network that halves three times takes multiples of 8."""
    dims = ["h=8..64/8@16", "w=16..128/8"]
    opened = source(factory(tmp_path, UNET), inputs=["color:1x3xhxw"], dims=dims)
    assert {name: str(row) for name, row in opened.dimensions.items()} == {
        "h": "8..64/8@16",
        "w": "16..128/8@16",
    }
    check(opened, opened.module, tmp_path)
    check(opened, opened.module, tmp_path / "large", {"h": 64, "w": 24})


def test_step_declared_by_an_exported_program(tmp_path):
    space: dict[str, Any] = {"torch": torch}
    exec(UNET, space)
    module = space["make"]()
    shapes = {"color": {2: 8 * Dim("rows", max=8), 3: 8 * Dim("columns", min=2, max=16)}}
    path = exported(tmp_path, module, torch.rand(1, 3, 16, 24), dynamic_shapes=shapes)
    opened = source(path)
    # torch.export takes at least 2 of what a dimension counts
    assert {name: str(row).partition("@")[0] for name, row in opened.dimensions.items()} == {
        "h": "16..64/8",
        "w": "16..128/8",
    }
    check(opened, module, tmp_path, {"h": 40, "w": 16})
    with pytest.raises(UsageError, match=r"allows 16\.\.64/8, asked for was 12"):
        source(path, dims=["h=12"])


@pytest.mark.parametrize("kind", ["exported", "factory", "TorchScript"])
def test_inputs_that_share_a_dimension(kind, tmp_path):
    path = factory(tmp_path, f"{ADD}def make():\n    return Add()\n")
    examples = (torch.rand(5, 4), torch.rand(5, 4))
    given = {"inputs": ["left:tx4", "right:tx4"], "dims": ["t=2..32@5"]}
    opened = source(path, **given)
    module = opened.module
    if kind == "exported":
        size = Dim("size", min=2, max=32)
        shapes = {"left": {0: size}, "right": {0: size}}
        path = exported(tmp_path, module, *examples, dynamic_shapes=shapes)
        opened = source(path, inputs=["left:tx4"])
    if kind == "TorchScript":
        opened = source(traced(tmp_path, module, *examples), **given)
    assert [str(item.type) for item in opened.inputs] == ["float32[t, 4]", "float32[t, 4]"]
    (dimension,) = opened.dimensions.values()
    assert (dimension.minimum, dimension.maximum) == (2, 32)
    check(opened, module, tmp_path, {"t": 7})


def test_dimension_shared_in_the_model_has_one_name(tmp_path):
    size = Dim("size", min=2, max=32)
    module = source(
        factory(tmp_path, f"{ADD}def make():\n    return Add()\n"), ["left:4", "right:4"]
    ).module
    shapes = {"left": {0: size}, "right": {0: size}}
    path = exported(tmp_path, module, torch.rand(5, 4), torch.rand(5, 4), dynamic_shapes=shapes)
    with pytest.raises(UsageError, match="uses one size in both places"):
        source(path, inputs=["left:ax4", "right:bx4"])


class Spectrum(torch.nn.Module):
    """Three operations for which there is no lowering."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lines = torch.special.bessel_j0(x)
        values = torch.linalg.eigh(lines @ lines.T).eigenvalues
        return torch.fft.fft2(lines).real + values


def line_of(text: str) -> int:
    """The number of the first line of this file that has the text."""
    return next(
        number
        for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
        if text in line
    )


@pytest.mark.parametrize("kind", ["exported", "TorchScript"])
def test_all_unsupported_operations_with_their_lines(kind, tmp_path):
    module = Spectrum()
    if kind == "exported":
        opened = source(exported(tmp_path, module, torch.rand(4, 4)))
    else:
        opened = source(traced(tmp_path, module, torch.rand(4, 4)), inputs=["x:4x4"])
    with pytest.raises(UnsupportedModel) as caught:
        opened.lower(LoweringRequest(), tmp_path)
    message, *places = str(caught.value).splitlines()
    assert "operations of the model cannot be converted" in message
    wanted = {"bessel_j0": "bessel_j0(x)", "eigh": "eigh(lines", "fft": "fft2(lines)"}
    for operation, code in wanted.items():
        assert operation in message
        line = f"{Path(__file__).name}:{line_of(code)}"
        assert any(operation in place and line in place for place in places), (line, places)
    names = {row["operation"] for row in opened.describe()["unsupported"]}
    assert all(any(operation in name for name in names) for operation in wanted)


@pytest.mark.parametrize("kind", ["exported", "TorchScript"])
@pytest.mark.parametrize(
    "function",
    [lambda self, x: 1 / x, lambda self, x: x.reciprocal()],
    ids=["1/x", "reciprocal"],
)
def test_reciprocal_is_exact(kind, function, tmp_path):
    """coremltools alone adds 0.0001 to x: 10 % too little at x = 0.001."""
    module = Net(function)
    x = torch.tensor([0.001, -0.001, 0.5, 3.0])
    if kind == "exported":
        opened = source(exported(tmp_path, module, x))
    else:
        opened = source(traced(tmp_path, module, x), inputs=["x:4"])
    package, _ = packaged(opened, tmp_path)
    found = load(package).predict({"x": x.numpy()})["output"]
    np.testing.assert_allclose(found, module(x).numpy(), rtol=1e-6)


def test_scripted_module_with_several_inputs(tmp_path):
    """Scripted, not traced: the inputs have the names of forward's parameters."""

    class Blend(torch.nn.Module):
        def forward(self, near: torch.Tensor, far: torch.Tensor, weight: torch.Tensor):
            mixed = near + (far - near) * weight
            return mixed, torch.cat([near, far], 1)

    module = Blend()
    with quiet():
        torch.jit.script(module).save(tmp_path / "net.pt")
    shapes = ["weight:1", "near:2x3", "far:2x3"]
    opened = source(tmp_path / "net.pt", inputs=shapes)
    assert (opened.kind, opened.name) == ("TorchScript", "net")
    assert [item.name for item in opened.inputs] == ["near", "far", "weight"]
    check(opened, module, tmp_path)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], 'does not say the shape of its input "left"'),
        (["left:2x4"], 'does not say the shape of its input "right"'),
        (["left:2x5", "right:2x4"], "does not run with the inputs left: float32[2, 5]"),
        (["left:2x4", "rigth:2x4"], 'did you mean "right"?'),
        (["left:2x4", "left:2x4"], 'input "left" is given twice'),
    ],
)
def test_inputs_of_torchscript_that_do_not_fit(inputs, message, tmp_path):
    module = source(
        factory(tmp_path, f"{ADD}def make():\n    return Add()\n"), ["left:4", "right:4"]
    ).module
    path = traced(tmp_path, module, torch.rand(2, 4), torch.rand(2, 4))
    with pytest.raises(UsageError) as caught:
        source(path, inputs=inputs)
    assert message in str(caught.value)


KEYWORDS = """
class Guided(torch.nn.Module):
    def forward(self, color, guide=None, *, depth, mask=None):
        result = color * depth
        if guide is not None:
            result = result + guide
        return result if mask is None else result * mask

def make():
    return Guided()
"""


@pytest.mark.parametrize("optional", [[], ["guide"], ["mask"], ["guide", "mask"]])
def test_keyword_only_and_optional_inputs(optional, tmp_path):
    """An input with a default of None is left out unless it is given; the order is forward's."""
    names = ["depth", *optional, "color"]
    opened = source(factory(tmp_path, KEYWORDS), inputs=[f"{name}:2x3" for name in names])
    ordered = [name for name in ("color", "guide", "depth", "mask") if name in names]
    assert [item.name for item in opened.inputs] == ordered
    check(opened, opened.module, tmp_path)


def test_exported_program_with_keyword_only_inputs(tmp_path):
    space: dict[str, Any] = {"torch": torch}
    exec(KEYWORDS, space)
    module = space["make"]()
    examples = {"mask": torch.rand(2, 3), "depth": torch.rand(2, 3)}
    path = exported(tmp_path, module, torch.rand(2, 3), kwargs=examples)
    opened = source(path)
    assert sorted(item.name for item in opened.inputs) == ["color", "depth", "mask"]
    check(opened, module, tmp_path)


def test_missing_keyword_only_input_is_named(tmp_path):
    with pytest.raises(UsageError, match='shape of input "depth" is not known'):
        source(factory(tmp_path, KEYWORDS), inputs=["color:2x3"])


@pytest.mark.parametrize(
    "function",
    [lambda self, x: self.layer(x) - 1, lambda self, x: 0.5 + self.layer(x)],
    ids=["less", "plus"],
)
def test_scalar_beside_a_layer_with_one_output(function, tmp_path):
    """coremltools fails where it should leave the number out of the layer's bias."""
    module = Net(function)
    module.layer = torch.nn.Linear(4, 1)
    x = torch.rand(5, 4)
    check(source(exported(tmp_path, module, x)), module, tmp_path)


def test_remainder_of_one_is_no_zero(tmp_path):
    """coremltools takes a division of floats by 1, rounded down, for one that does nothing."""
    module = Net(lambda self, x: torch.cat([x * 4 % 1.0, x * 4 // 1], 1))
    x = 4 * torch.rand(5, 4) - 2
    check(source(exported(tmp_path, module, x)), module, tmp_path, inputs={"x": x.numpy()})


def test_outputs_that_differ_in_signs_alone_are_refused(tmp_path):
    module = Net(lambda self, x: (x + 1, x * 2))
    opened = source(exported(tmp_path, module, torch.rand(3)))
    for names in (("x.y", "x_y"), ("", "b"), ("\u00fc", "\u00f6")):
        with pytest.raises(UsageError, match="cannot be told apart"):
            opened.lower(LoweringRequest(output_names=names), tmp_path / "work")
