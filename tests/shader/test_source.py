"""The generator of Metal source: what it writes, and what that computes through the stand-in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from metal4conv.errors import MissingDependency
from metal4conv.shader.compiler import HostBuild, find_compiler
from metal4conv.shader.document import SamplerLayout, TextureLayout
from metal4conv.shader.evaluation import evaluate
from metal4conv.shader.host import HostShader, open_shader
from metal4conv.shader.network import FUNCTIONS, Element, Index, Network, Table
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from metal4conv.shader.source import write_source
from tests.shader import handmade
from tests.shader.error_bounds import error_bound
from tests.shader.handmade import Hand, call, shader_files, written

GOLDEN = Path(__file__).parent.parent / "golden" / "shader"

SIZE = (11, 7)
"""77 points: the last simdgroup has lanes without one."""

PLAIN = ShaderOptions()
EXACT = ShaderOptions("float32")


@pytest.fixture(autouse=True, scope="module")
def compiler() -> None:
    """All tests that run a source need clang."""
    try:
        find_compiler()
    except MissingDependency as error:
        pytest.skip(str(error))


def opened(network: Network, options: ShaderOptions, folder: Path) -> HostShader:
    """The shader of a network; its library is compiled into `folder`."""
    return open_shader(shader_files(network, options, folder), folder)


def runs(shader: HostShader) -> list[tuple[str, bool]]:
    """All entry points on both paths."""
    paths = (False, True) if shader.manifest.constants else (False,)
    return [(entry.name, path) for entry in shader.manifest.entry_points for path in paths]


def assert_close(
    got: Mapping[str, np.ndarray], exact: Mapping[str, np.ndarray], relative: float
) -> None:
    """All outputs within a share of the largest number of theirs."""
    assert set(got) == set(exact)
    for name, expected in exact.items():
        assert got[name].shape == expected.shape
        assert got[name].dtype == np.float32
        largest = np.abs(expected).max()
        np.testing.assert_allclose(got[name], expected, rtol=0, atol=relative * largest)


def assert_exact(network: Network, rows: Mapping[str, np.ndarray], folder: Path) -> None:
    """The float32 shader gives what the network's steps say."""
    shader = opened(network, EXACT, folder)
    exact = evaluate(network, rows)
    for entry, path in runs(shader):
        assert_close(shader.run(entry, rows, SIZE, path), exact, 1e-5)


@pytest.mark.parametrize(
    ("make", "tensors"),
    [
        (handmade.neural_material, "inline"),
        (handmade.encoded_siren, "handle"),
        (handmade.radiance_cache, "inline"),
    ],
)
def test_float32_is_the_network(make, tensors, tmp_path):
    hand = make()
    network, rows = hand.network(), hand.rows(77)
    shader = opened(network, ShaderOptions("float32", tensors), tmp_path)
    exact = evaluate(network, rows)
    assert len(runs(shader)) == 4
    for entry, path in runs(shader):
        assert_close(shader.run(entry, rows, SIZE, path), exact, 1e-5)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (handmade.neural_material, ShaderOptions("float16", "inline")),
        (handmade.encoded_siren, ShaderOptions("float16", "handle")),
        (handmade.radiance_cache, ShaderOptions("int8", "handle", system=(26, 4))),
        (handmade.neural_material, ShaderOptions("int8", "inline", system=(26, 4))),
        (handmade.neural_material, ShaderOptions("int8")),
    ],
)
def test_smaller_types_stay_within_their_bound(make, options, tmp_path):
    hand = make()
    network, rows = hand.network(), hand.rows(77)
    shader = opened(network, options, tmp_path)
    exact, bound = evaluate(network, rows), error_bound(network, rows, options.precision)
    for entry, path in runs(shader):
        for name, got in shader.run(entry, rows, SIZE, path).items():
            error = np.abs(got - exact[name])
            assert (error <= bound[name]).all()
            assert error.max() > 0, "float16 rounds something"


def test_weights_in_the_source(tmp_path):
    hand = handmade.tiny()
    network, rows = hand.network(), hand.rows(77)
    for precision in ("float32", "float16"):
        folder = tmp_path / precision
        folder.mkdir()
        options = ShaderOptions(precision, inline_weights=True)
        shader = opened(network, options, folder)
        assert runs(shader) == [("tiny_compute", False), ("tiny_fragment", False)]
        tolerance = 1e-5 if precision == "float32" else 2e-3
        for entry, path in runs(shader):
            assert_close(shader.run(entry, rows, SIZE, path), evaluate(network, rows), tolerance)


def test_every_number_in_the_source_reads_back_the_same():
    network = handmade.tiny().network()
    options = ShaderOptions("float32", inline_weights=True)
    text = written(network, options).text
    (first, *_) = network.program.linears
    array = text.split("tiny_w0[] = {")[1].split("};")[0]
    numbers = [np.float32(part.strip().removesuffix("f")) for part in array.split(",")]
    np.testing.assert_array_equal(numbers, first.weight.ravel())


@pytest.mark.parametrize("widths", [(33, 47, 200, 5), (3, 16, 40, 2), (1, 1, 1), (256, 256, 3)])
def test_padded_widths(widths, tmp_path):
    hand = Hand("padded")
    vector = hand.input("x", widths[0])
    for number, width in enumerate(widths[1:]):
        vector = hand.layer(f"layer_{number}", vector, width, "tanh")
    hand.output("y", vector)
    assert_exact(hand.network(), hand.rows(77), tmp_path)


def test_compiler_without_tensors_takes_the_plain_path(tmp_path):
    hand = handmade.neural_material()
    network, rows = hand.network(), hand.rows(77)
    for tensors in ("inline", "handle"):
        folder = tmp_path / tensors
        folder.mkdir()
        shader = opened(network, ShaderOptions("float32", tensors), folder)
        shader.build = HostBuild(without_tensors=True)
        for entry in ("neural_material_compute", "neural_material_fragment"):
            assert_close(shader.run(entry, rows, SIZE), evaluate(network, rows), 1e-5)


def test_data_movement(tmp_path):
    hand = Hand("moved", seed=3)
    a, b = hand.input("a", 6), hand.input("b", 2)
    reverse = Element(a, Index(5, -1))
    repeated = Element(b, Index(0, 1, 3))
    cycled = Element(a, Index(1, 2, 1, 3))
    picked = Element(a, Index(table=(4, 0, 0, 3, 5)))
    hand.output("reverse", hand.assign("reverse", (6, reverse), (6, repeated)))
    hand.output("picked", hand.assign("picked", (5, picked), (6, cycled), (1, Element(b))))
    table = Table(np.arange(1, 4, dtype=np.float32), Index(2, -1, 2))
    hand.output("tables", hand.assign("tables", (6, call("multiply", Element(a), table))))
    hand.output("zero", hand.assign("zero", (2, call("add", 1.5, -2.0)), (1, Element(b, Index(1)))))
    assert_exact(hand.network(), hand.rows(77), tmp_path)


def test_reductions(tmp_path):
    hand = Hand("reduced", seed=4)
    x = hand.input("x", 12)
    for operation in ("sum", "minimum", "maximum", "product"):
        hand.output(operation, hand.reduce(operation, operation, 4, 3, Element(x)))
        whole = hand.reduce(f"whole_{operation}", operation, 1, 12, call("abs", Element(x)))
        hand.output(f"whole_{operation}", whole)
    pairs = hand.reduce("pairs", "sum", 6, 2, Element(x))
    hand.output("layer", hand.layer("layer", pairs, 3))
    assert_exact(hand.network(), hand.rows(77), tmp_path)


def test_outputs_that_are_other_things(tmp_path):
    hand = Hand("shared", seed=5)
    x = hand.input("x", 3)
    speed = hand.input("speed", 1)
    sums = hand.linear("sums", x, 7)
    one = hand.linear("one", sums, 1)
    activated = hand.assign("activated", (7, call("tanh", Element(sums))))
    for name, vector in {
        "given": x, "number": speed, "bare": sums, "single": one,
        "activated": activated, "again": activated,
    }.items():  # fmt: skip
        hand.output(name, vector)
    assert_exact(hand.network(), hand.rows(77), tmp_path)


def test_names_that_metal_has_already(tmp_path):
    hand = Hand("half", seed=6)
    weights, tile = hand.input("weights", 4), hand.input("thread", 3)
    joined = hand.assign("max", (4, Element(weights)), (3, Element(tile)))
    hidden = hand.layer("tanh", joined, 9, "tanh")
    hidden = hand.layer("inputs", hidden, 9, "gelu")
    hand.output("kernel", hand.layer("w0", hidden, 2, "sigmoid"))
    hand.output("outputs", hand.layer("i", hidden, 1, "silu"))
    assert_exact(hand.network(), hand.rows(77), tmp_path)


SPREAD = np.concatenate(
    [
        np.linspace(-6, 6, 401),
        [-120.0, -88.0, -40.0, -17.5, 17.5, 40.0, 88.0, 120.0, 0.0, 1e-30, -1e-30],
        *[(scale, -scale) for scale in (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05)],
    ]
).astype(np.float32)

vector_erf = np.vectorize(math.erf)
vector_erfc = np.vectorize(math.erfc)

ORACLES: Mapping[str, Callable[..., np.ndarray]] = {
    "erf": vector_erf,
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -x)),
    "silu": lambda x: x * np.exp(-np.logaddexp(0, -x)),
    "gelu": lambda x: 0.5 * x * vector_erfc(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x / (1 + np.exp(-math.sqrt(8 / math.pi) * (x + 0.044715 * x**3))),
    "gelu_sigmoid": lambda x: x / (1 + np.exp(-1.702 * x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "sin": np.sin,
    "cos": np.cos,
    "sign": np.sign,
    "round": np.rint,
    "truncate": np.trunc,
    "floor": np.floor,
    "ceil": np.ceil,
    "negate": np.negative,
    "atan": np.arctan,
}  # fmt: skip


def test_functions_keep_float32_digits(tmp_path):
    """Relative errors, over ranges where naive formulas overflow or lose the digits of small x."""
    hand = Hand("curves")
    x = hand.input("x", 1)
    for name in ORACLES:
        hand.output(f"of_{name}", hand.assign(name, (1, call(name, Element(x)))))
    hand.output("of_elu", hand.assign("elu", (1, call("elu", Element(x), 0.7))))
    network = hand.network()
    source = written(network, EXACT)
    assert [entry.stage for entry in source.entry_points] == ["compute"]
    assert source.notes[0].startswith("there is no fragment function: the outputs of_erf (1), ")
    shader = opened(network, EXACT, tmp_path)
    got = shader.run("curves_compute", {"x": SPREAD[:, None]}, (len(SPREAD), 1))
    wide = SPREAD.astype(np.float64)
    oracles = {**ORACLES, "elu": lambda x: np.where(x < 0, 0.7 * np.expm1(x), x)}
    with np.errstate(over="ignore"):
        expected = {name: oracle(wide) for name, oracle in oracles.items()}
    for name, values in expected.items():
        near = np.abs(wide) < 5
        # far out, exp(-x * x) and the like magnify the rounding of their argument
        tolerance = np.where(near, 2e-6, 2e-5) * np.abs(values) + 1e-37
        assert (np.abs(got[f"of_{name}"][:, 0] - values) <= tolerance).all(), name


def test_all_functions(tmp_path):
    """Every function of the network's language has Metal, and is what `evaluate` says it is."""
    hand = Hand("all_functions", seed=8)
    x, y = hand.input("x", 3), hand.input("y", 3)
    positive = call("add", call("abs", Element(x)), 0.1)
    share = call("multiply", 0.99, call("tanh", Element(x)))
    domains = {
        "log": positive,
        "sqrt": positive,
        "rsqrt": positive,
        "acos": share,
        "asin": share,
        "reciprocal": positive,
    }
    exponents = {"power": (positive, Element(y))}
    pieces = []
    for name, count in FUNCTIONS.items():
        arguments = exponents.get(name) or [
            domains.get(name, Element(x)), Element(y), Element(x, Index(0, 1, 3)),
        ][:count]  # fmt: skip
        if name == "clamp":
            arguments = [Element(x), -0.5, 0.75]
        pieces.append((3, call(name, *arguments)))
    for first in range(0, len(pieces), 8):  # as a function is given 31 buffers at most
        group = f"from_{list(FUNCTIONS)[first]}"
        hand.output(group, hand.assign(group, *pieces[first : first + 8]))
    rows = hand.rows(77)
    rows["y"][:40] = np.abs(rows["y"][:40]) + 0.5
    rows["x"][3] = rows["y"][3]
    rows["x"][4] = 0
    network = hand.network()
    shader = opened(network, EXACT, tmp_path)
    assert_close(shader.run("all_functions_compute", rows, SIZE), evaluate(network, rows), 1e-5)


def test_functions_of_numbers_are_written_short():
    hand = Hand("brief")
    x = Element(hand.input("x", 5))
    expressions = {
        "squares": call("power", x, 2.0),
        "below": call("clamp", x, -math.inf, 6.0),
        "above": call("clamp", x, 0.5, math.inf),
        "chosen": call("select", call("less", x, 0.0), call("negate", x), call("add", x, 1e-5)),
        "difference": call("subtract", x, call("subtract", x, call("divide", 1.0, x))),
    }
    for name, expression in expressions.items():
        hand.output(name, hand.assign(name, (5, expression)))
    text = written(hand.network(), EXACT).text
    for line in (
        "outputs.squares[i] = brief_square(inputs.x[i]);",
        "outputs.below[i] = min(inputs.x[i], 6.0f);",
        "outputs.above[i] = max(inputs.x[i], 0.5f);",
        "outputs.chosen[i] = inputs.x[i] < 0.0f ? -inputs.x[i] : inputs.x[i] + 1e-05f;",
        "outputs.difference[i] = inputs.x[i] - (inputs.x[i] - 1.0f / inputs.x[i]);",
    ):
        assert line in text


def latent_layouts() -> tuple[TextureLayout, ...]:
    """Two textures of 8 × 8 texels for the eight latents."""
    return tuple(
        TextureLayout(
            f"latents_{first // 4}", "latents", tuple(range(first, first + 4)), "rgba8Unorm",
            70, 8, 8, 256 * (first // 4), 32, 256,
        )
        for first in (0, 4)
    )  # fmt: skip


def test_sampled_latents_are_declared():
    network = handmade.neural_material().network()
    source = written(network, PLAIN, latent_layouts(), SamplerLayout())
    names = [entry.name.removeprefix("neural_material_") for entry in source.entry_points]
    assert names == ["compute", "texture_compute", "fragment"]
    fragment = source.entry_points[2]
    assert fragment.inputs == "texture"
    assert [(one.kind, one.index, one.port) for one in fragment.arguments] == [
        ("stage_in", None, None),
        ("buffer", 0, None),
        ("texture", 0, "latents_0"),
        ("texture", 1, "latents_1"),
        ("sampler", 0, None),
    ]
    assert "inputs.latents[7] = texel_1.w;" in source.text


def test_int8_needs_a_newer_system_for_matmul2d():
    network = handmade.tiny().network()
    old = written(network, ShaderOptions("int8"))
    assert old.constants == ()
    assert "matmul2d" not in old.text
    assert old.notes == (
        "int8 weights are read by the plain path alone: matmul2d takes them beside half from "
        "system 26.4 on, and this source is for 26.0",
    )
    new = written(network, ShaderOptions("int8", system=(26, 4)))
    assert [constant.name for constant in new.constants] == ["tiny_use_matmul2d"]
    assert new.notes == ()


def test_tile_that_does_not_fit():
    """320 floats for each of 32 points are 40,960 bytes."""
    hand = Hand("broad")
    hand.output("y", hand.layer("y", hand.input("x", 300), 4))
    source = written(hand.network(), EXACT)
    compute = source.entry_points[0]
    assert not compute.simdgroup
    assert compute.threadgroup_memory_bytes == 0
    assert "32 points of the widest layer take 40,960 bytes" in source.notes[0]
    assert "execution_simdgroup" not in source.text


def test_threadgroup_memory_of_several_simdgroups():
    source = written(handmade.neural_material().network(), PLAIN)
    compute = source.entry_points[0]
    assert compute.threads_per_threadgroup == compute.points_per_threadgroup == 128
    # 4 simdgroups × 32 points × the larger of 32 half operands and 16 float sums
    assert compute.threadgroup_memory_bytes == 4 * 32 * max(32 * 2, 16 * 4)
    assert source.estimates.threadgroup_bytes == compute.threadgroup_memory_bytes


def test_same_text_every_time():
    texts = {written(handmade.radiance_cache().network(), PLAIN).text for _ in range(2)}
    assert len(texts) == 1


def test_origin_is_named():
    network = handmade.tiny().network()
    packed = pack_weights(network, PLAIN)
    text = write_source(network, PLAIN, packed, origin="pytorch module tiny.py").text
    assert "// tiny: y (1) of x (2), made from pytorch module tiny.py." in text


CASES: Mapping[str, tuple[Callable[[], Hand], ShaderOptions]] = {
    "neural_material": (handmade.neural_material, PLAIN),
    "siren_handle_float32": (handmade.encoded_siren, ShaderOptions("float32", "handle")),
    "radiance_cache_int8": (handmade.radiance_cache, ShaderOptions("int8", system=(26, 4))),
    "tiny_inline_weights": (handmade.tiny, ShaderOptions(inline_weights=True)),
}


@pytest.mark.parametrize("case", CASES)
def test_golden_text(case, request):
    make, options = CASES[case]
    check_golden(f"{case}.metal", written(make().network(), options).text, request)


def test_golden_text_with_textures(request):
    network = handmade.neural_material().network()
    text = written(network, PLAIN, latent_layouts(), SamplerLayout()).text
    check_golden("neural_material_textures.metal", text, request)


def check_golden(name: str, text: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / name
    if request.config.getoption("--rewrite-golden"):
        path.write_text(text)
    assert text == path.read_text()


def test_labels_of_the_model_stay_in_their_comments(tmp_path):
    """Names of operations may hold anything in a package that somebody else wrote."""
    hand = Hand("labels")
    x = hand.input("x", 3)
    label = 'layer "a"\n#error made by a label */ \\'
    sums = hand.linear("sums", x, 4, label)
    hand.output("y", hand.assign("y", (4, call("add", Element(sums), hand.table(4))), label=label))
    for options in (EXACT, ShaderOptions(inline_weights=True)):
        lines = written(hand.network(), options).text.splitlines()
        assert not any(line.startswith("#error") for line in lines)
        assert not any(line.endswith("\\") for line in lines if "label" in line)
    assert_exact(hand.network(), hand.rows(77), tmp_path)


def test_names_that_begin_as_those_at_file_scope(tmp_path):
    hand = Hand("net", seed=9)
    x = hand.input("net_evaluate", 3)
    hidden = hand.layer("net_gelu", x, 5, "gelu")
    hand.output("net_x_width", hand.layer("net_inputs", hidden, 2, "sigmoid"))
    assert_exact(hand.network(), hand.rows(77), tmp_path)
