"""The C header, compiled as C and as C++ and run: its numbers are those of the manifest."""

from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.layout.document import LayoutManifest, TensorLayout
from metal4conv.layout.emit import emit
from metal4conv.layout.emit.cpp import FUNCTIONS
from metal4conv.layout.emit.expressions import Language, render
from metal4conv.layout.expression import align, ceildiv, evaluate
from metal4conv.mil.program import Dimension
from tests.layout.emit.compilers import PRINT, STANDARDS, run_program
from tests.layout.manifests import classifier, manifest_with, upscaler

LANGUAGES = pytest.mark.parametrize("language", STANDARDS)


def numbers_of(tensor: TensorLayout) -> list[int]:
    """A manifest's tensor at given sizes, as `print_tensor` prints it."""
    assert tensor.data_type
    assert tensor.buffer
    head = [len(tensor.dimensions), tensor.data_type.raw, tensor.data_type.bytes]
    lists = [*tensor.dimensions, *tensor.buffer.strides, *tensor.cpu_strides]
    tight = math.prod(map(int, tensor.dimensions)) * tensor.data_type.bytes
    numbers = [*head, tensor.expected_buffer_index, *lists, tensor.buffer.byte_length, tight]
    return [int(number) for number in numbers]


def main_of(header: str, body: str) -> dict[str, str]:
    """The files of a program that runs `body`."""
    return {
        "net.h": header,
        "main": f'#include "net.h"\n{PRINT}\nint main(void) {{\n{body}\nreturn 0;\n}}\n',
    }


SIZES = [(720, 1280), (16, 16), (24, 17), (2160, 100_003)]


@LANGUAGES
def test_dynamic_sizes(language: str, tmp_path: Path) -> None:
    manifest = upscaler()
    calls = [
        f"{{ upscaler_dims dims = {{{h}, {w}}}; print_tensor(upscaler_color(dims)); "
        f"print_tensor(upscaler_upscaled(dims)); }}"
        for h, w in SIZES
    ]
    printed = run_program(tmp_path, language, main_of(emit(manifest, "cpp"), "\n".join(calls)))
    expected = [
        numbers_of(tensor) for h, w in SIZES for tensor in manifest.at({"h": h, "w": w}).tensors
    ]
    assert printed == expected


@LANGUAGES
def test_dims_that_are_given_become_numbers(language: str, tmp_path: Path) -> None:
    manifest = upscaler().at({"h": 64})
    body = "upscaler_dims dims = {100}; print_tensor(upscaler_color(dims));" + "".join(
        f'printf("%lld\\n", (long long){name});'
        for name in ("UPSCALER_H_FIXED", "UPSCALER_COLOR_DIMENSION_1")
    )
    printed = run_program(tmp_path, language, main_of(emit(manifest, "cpp"), body))
    assert printed == [numbers_of(manifest.at({"w": 100}).tensors[0]), [64], [64]]


@LANGUAGES
def test_numbers_are_constants(language: str, tmp_path: Path) -> None:
    check = "static_assert" if language == "c++" else "_Static_assert"
    fixed = {
        "X_RANK": 2,
        "X_DATA_TYPE": 3,
        "X_DIMENSION_0": 10,
        "X_STRIDE_1": 16,
        "X_CPU_STRIDE_1": 10,
        "X_BYTE_LENGTH": 256,
        "X_CPU_BYTE_LENGTH": 160,
        "Y_EXPECTED_BUFFER_INDEX": 1,
        "Y_DATA_TYPE": 29,
        "MAX_BUFFER_BIND_COUNT": 2,
    }
    body = "\n".join(
        f'{check}(CLASSIFIER_{key} == {value}, "{key}");' for key, value in fixed.items()
    )
    body += "\nprint_tensor(classifier_x()); print_tensor(classifier_y());"
    if language == "c++":
        body += '\nstatic_assert(classifier_x().strides[1] == 16, "constexpr");'
    body += "\n#if CLASSIFIER_X_BYTE_LENGTH != 256\n#error\n#endif\n"
    manifest = classifier()
    printed = run_program(tmp_path, language, main_of(emit(manifest, "cpp"), body))
    assert printed == [numbers_of(tensor) for tensor in manifest.tensors]


@LANGUAGES
def test_sizes_that_the_package_allows(language: str, tmp_path: Path) -> None:
    manifest = manifest_with(
        [("x", "input", "float16", ("n", "h", "w")), ("y", "output", "float16", ("n",))],
        {
            "n": Dimension(1, 4, 1, values=(1, 4)),
            "h": Dimension(8, 64, 16, step=8),
            "w": Dimension(8, None, 16),
        },
        enumerated={"x": ((1, 8, 8), (1, 16, 32), (4, 64, 64))},
    )
    cases = [(1, 8, 8), (1, 16, 32), (4, 64, 64), (1, 8, 16), (2, 8, 8), (4, 64, 63)]
    body = "".join(
        f'{{ net_dims dims = {{{n}, {h}, {w}}}; printf("%d\\n", net_allows(dims)); }}'
        for n, h, w in cases
    )
    body += 'printf("%lld\\n", (long long)net_default_dims().h);'
    printed = run_program(tmp_path, language, main_of(emit(manifest, "cpp"), body))
    assert printed == [[1], [1], [1], [0], [0], [0], [16]]


DTYPES = {
    "float32": (3, 4),
    "float16": (16, 2),
    "bfloat16": (121, 2),
    "int8": (45, 1),
    "uint8": (49, 1),
    "int16": (37, 2),
    "uint16": (41, 2),
    "int32": (29, 4),
    "uint32": (33, 4),
}
"""Raw value and bytes from `MTLDataType.h`, written down once more."""


def by_hand(dtype: str, shape: tuple[int, ...], index: int) -> list[int]:
    """The numbers of a tensor, from the rules of `MTLTensor.h` and nothing of the package."""
    raw, size = DTYPES[dtype]
    dims = list(reversed(shape))
    strides: list[int] = []
    tight: list[int] = []
    length, count = 1, 1
    for position, dim in enumerate(dims):
        strides.append(length)
        tight.append(count)
        length, count = length * dim, count * dim
        if position == 0 and len(dims) > 1:
            while length * size % 64:
                length += 1
    return [len(dims), raw, size, index, *dims, *strides, *tight, length * size, count * size]


def random_tensors(count: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape; every dtype and every rank from 0 to 7 occurs."""
    draw = random.Random(20_26)
    return [
        (
            f"t{index}",
            list(DTYPES)[index % len(DTYPES)],
            tuple(draw.choice((1, 2, 3, 7, 31, 64, 518, 1000)) for _ in range(index % 8)),
        )
        for index in range(count)
    ]


@LANGUAGES
def test_200_random_shapes_agree_with_a_computation_by_hand(language: str, tmp_path: Path) -> None:
    tensors = random_tensors(200)
    manifest = manifest_with([(name, "input", dtype, shape) for name, dtype, shape in tensors])
    body = "\n".join(f"print_tensor(net_{name}());" for name, _, _ in tensors)
    printed = run_program(tmp_path, language, main_of(emit(manifest, "cpp"), body))
    hand = [by_hand(dtype, shape, index) for index, (_, dtype, shape) in enumerate(tensors)]
    assert [numbers_of(tensor) for tensor in manifest.tensors] == hand
    assert printed == hand


@LANGUAGES
def test_200_random_shapes_of_open_sizes(language: str, tmp_path: Path) -> None:
    draw = random.Random(4)
    tensors = [
        (name, dtype, tuple(draw.choice(("a", "b", f"a*{n}", f"(b+1)//{n}", n)) for n in shape))
        for name, dtype, shape in random_tensors(200)
        if shape and len(shape) < 5
    ]
    dims = {"a": Dimension(1, 100, 3), "b": Dimension(1, 4000, 77)}
    manifest = manifest_with(
        [(name, "input", dtype, shape) for name, dtype, shape in tensors], dims
    )
    sizes = {"a": 5, "b": 2063}
    calls = "\n".join(f"print_tensor(net_{name}(dims));" for name, _, _ in tensors)
    body = f"net_dims dims = {{5, 2063}};\n{calls}"
    printed = run_program(tmp_path, language, main_of(emit(manifest, "cpp"), body))
    shapes = [tuple(evaluate(size, sizes) for size in shape) for *_, shape in tensors]
    hand = [
        by_hand(dtype, shape, index)
        for index, ((_, dtype, _), shape) in enumerate(zip(tensors, shapes, strict=True))
    ]
    assert [numbers_of(tensor) for tensor in manifest.at(sizes).tensors] == hand
    assert printed == hand


def formulas() -> st.SearchStrategy[str]:
    """Formulas whose parts may be negative; divisors are numbers other than 0."""
    divisors = st.integers(1, 40).map(lambda n: f"({n})") | st.integers(-40, -1).map(
        lambda n: f"({n})"
    )
    leaves = st.sampled_from(["h", "w"]) | st.integers(-50, 50).map(lambda n: f"({n})")

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        infix = st.tuples(inner, st.sampled_from("+-*"), inner).map(
            lambda t: f"({t[0]}{t[1]}{t[2]})"
        )
        quotient = st.tuples(inner, divisors).map(lambda t: f"({t[0]}//{t[1]})")
        rounded = st.tuples(st.sampled_from(["ceildiv", "align"]), inner, divisors)
        extreme = st.tuples(
            st.sampled_from(["min", "max"]), st.lists(inner, min_size=1, max_size=3)
        )
        return (
            infix
            | quotient
            | rounded.map(lambda t: f"{t[0]}({t[1]}, {t[2]})")
            | extreme.map(lambda t: f"{t[0]}({', '.join(t[1])})")
        )

    return st.recursive(leaves, grown, max_leaves=6)


C = Language(FUNCTIONS, {"h": "dims.h", "w": "dims.w"})
EDGES = [
    "(h-100)//7",
    "ceildiv(h-100, 7)",
    "align(h-100, 32)",
    "(h-100)//(0-7)",
    "ceildiv(100-h, 0-7)",
    "align(w-9, 0-8)",
    "max(min(h, w), ceildiv(h-w, 3), align(w, 64)//5)",
    "min(h)-max(w)-(h-w)",
    "h-(w-(h-w))",
    "h//3*4-(h//3)*(w+1)",
    "(h+1)*(w-1)*(h-w)",
    "100000*100000*h",
    "h-5+(0-3)*w",
    "((h-100)//2-1)//2",
]


@settings(max_examples=1, phases=[Phase.generate], deadline=None, derandomize=True)
@given(cases=st.lists(formulas(), min_size=300, max_size=300))
def test_compiled_formulas(cases: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    cases = [*EDGES, *cases]
    sizes = [(1, 1), (7, 64), (99, 33)]
    functions = "".join(
        f"static metal4conv_int f{index}(net_dims dims)\n"
        f"{{ (void)dims; return {render(text, C)}; }}\n"
        for index, text in enumerate(cases)
    )
    dims = {name: Dimension(1, None, 1) for name in "hw"}
    header = emit(manifest_with([("x", "input", "int8", ("h", "w"))], dims), "cpp")
    calls = [
        f'{{ net_dims dims = {{{h}, {w}}}; printf("%lld\\n", (long long)f{index}(dims)); }}'
        for index in range(len(cases))
        for h, w in sizes
    ]
    main = main_of(header, "\n".join(calls))
    main["main"] = main["main"].replace("int main", f"{functions}\nint main")
    printed = run_program(tmp_path_factory.mktemp("formulas"), "c", main)
    assert printed == [[evaluate(text, {"h": h, "w": w})] for text in cases for h, w in sizes]


@settings(max_examples=300, deadline=None)
@given(formula=formulas(), h=st.integers(1, 99), w=st.integers(1, 99))
def test_rendered_formulas_have_the_value_of_the_manifest(formula: str, h: int, w: int) -> None:
    """Python reads `+`, `-`, `*`, parentheses and calls as C does."""
    meaning = {
        "metal4conv_floordiv": int.__floordiv__,
        "metal4conv_ceildiv": ceildiv,
        "metal4conv_align": align,
        "metal4conv_min": min,
        "metal4conv_max": max,
        "dims": SimpleNamespace(h=h, w=w),
    }
    assert eval(render(formula, C), meaning) == evaluate(formula, {"h": h, "w": w})


NAMES = [
    "x.1",
    "x_1",
    "X 1",
    "class",
    "int",
    "4x",
    "größe",
    "入力",
    "🙂",
    "😀",
    "",
    "dims",
    "default_dims",
    "allows",
    "max_buffer_bind_count",
    "x",
    "x_cpu",
    "layout_h",
    'say "hi"??/',
    "back\\slash\\",
    "new\nline\t\x01",
    "a*/b/*c//",
    "%d{{ x }}",
]


@LANGUAGES
def test_any_names(language: str, tmp_path: Path) -> None:
    manifest = manifest_with(
        [(name, "input", "float16", ("class", "_h", "ü")) for name in NAMES],
        {name: Dimension(1, 9, 2 + i) for i, name in enumerate(("class", "_h", "ü"))},
        name="7 net-é",
    )
    header = emit(manifest, "cpp")
    stems = [
        line.split()[1]
        for line in header.splitlines()
        if line.startswith("#define N7_NET_E_") and "_NAME " in line
    ]
    assert len(set(stems)) == len(NAMES)
    body = "".join(
        f'for (const char *p = {stem}; *p; ++p) {{ printf("%d ", (unsigned char)*p); }}\n'
        'printf("\\n");\n'
        for stem in stems
    )
    printed = run_program(tmp_path, language, main_of(header, body))
    assert [bytes(line).decode() for line in printed] == NAMES


@LANGUAGES
def test_two_networks_in_one_program(language: str, tmp_path: Path) -> None:
    files = main_of(emit(upscaler(), "cpp"), "print_tensor(classifier_x());")
    files["other.h"] = emit(classifier(), "cpp")
    files["main"] = '#include "other.h"\n' + files["main"]
    assert run_program(tmp_path, language, files) == [numbers_of(classifier().tensors[0])]


def test_shaders_read_it_without_the_headers_of_c(tmp_path: Path) -> None:
    """C++ with Metal's macro stands for Metal's compiler, whose `long` has 64 bits as here."""
    files = main_of(
        emit(upscaler(), "cpp"), "print_tensor(upscaler_color(upscaler_default_dims()));"
    )
    files["main"] = f"#define __METAL_VERSION__ 400\n{files['main']}"
    files["net.h"] = files["net.h"].replace("<metal_stdlib>", '"metal_stdlib"')
    files["metal_stdlib"] = "static const int included = 1;\n"
    files["main"] = files["main"].replace("return 0;", "return included - 1;")
    manifest = upscaler().at({"h": 720, "w": 1280})
    assert run_program(tmp_path, "c++", files) == [numbers_of(manifest.tensors[0])]


def test_what_does_not_fit_64_bits() -> None:
    with pytest.raises(UnsupportedModel, match="does not fit into 64 bits"):
        emit(manifest_with([("x", "input", "int8", (2**40, 2**40))]), "cpp")


def unbindable() -> dict[str, tuple[LayoutManifest, str]]:
    """Manifests with something that a pass cannot bind, and what the refusal names."""
    return {
        "dtype": (
            manifest_with([("ids", "input", "int64", (4,))]),
            'input "ids" cannot be bound.*int64',
        ),
        "unknown": (
            manifest_with([("boxes", "output", "float16", ("?0", 4))]),
            'output "boxes".*only known',
        ),
        "kind": (
            manifest_with([("seq", "input", "float32", (4,))], kinds={"seq": "dictionary"}),
            'input "seq".*a dictionary',
        ),
        "rank": (
            manifest_with([("big", "input", "float16", (1,) * 17)]),
            'input "big".*17 dimensions',
        ),
        "states": (
            manifest_with([("x", "input", "float16", (4,))], states=("cache",)),
            "states .cache.",
        ),
        "name": (manifest_with([("x", "input", "float16", ("q",))]), 'input "x" depends on "q"'),
    }


def test_unknown_language() -> None:
    with pytest.raises(UsageError, match='no code is written in "rust"'):
        emit(upscaler(), "rust")


@pytest.mark.parametrize("language", ["cpp", "objc", "swift"])
@pytest.mark.parametrize("reason", unbindable())
def test_what_cannot_be_bound_is_refused(reason: str, language: str) -> None:
    manifest, message = unbindable()[reason]
    with pytest.raises(UnsupportedModel, match=message):
        emit(manifest, language)
