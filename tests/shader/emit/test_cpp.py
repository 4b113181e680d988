"""The metal-cpp header: compiled against declarations, and run with objects that print.

The declarations in `metal_cpp` stand for Apple's headers, which are not at hand; no Metal runs.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.shader.document import (
    Argument,
    FunctionConstant,
    ShaderManifest,
    ShaderPort,
)
from metal4conv.shader.emit import emit_shader
from tests.layout.emit.test_cpp import NAMES
from tests.shader.manifests import MANIFESTS, denoiser, field, material, tiny

HEADERS = Path(__file__).parent / "metal_cpp"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow"]
GROUPS = (("field", "material", "denoiser", "tiny"), ("handles",))
"""Shaders whose headers are compiled together; the last one has a name of the first group."""
POINTERS = pytest.mark.parametrize("pointers", ["const", ""])


TELL = """
const auto tell = [&](bool done) { std::printf("%d %s\\n", done, error.c_str()); };
(void)tell;
"""


def compile_text(
    folder: Path, files: dict[str, str], pointers: str = "const", program: str | None = None
) -> str:
    """What the compiler says about the file `main.cpp`."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")
    command = ["g++", "-std=c++17", *WARNINGS, f"-DMAYBE_CONST={pointers}", "-I", str(HEADERS)]
    target = ["-fsyntax-only"] if program is None else ["-o", program]
    done = subprocess.run(
        [*command, "main.cpp", *target],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def printed(folder: Path, manifest: ShaderManifest, body: str, extra: str = "") -> list[str]:
    """What a program prints that includes the header of a manifest."""
    main = (
        '#include "recorder.hpp"\n#include "net.hpp"\n'
        "#include <cstdio>\n"
        f"int main()\n{{\nstd::string error;\n{TELL}\n{body}\nreturn 0;\n}}\n"
    )
    files = {"net.hpp": emit_shader(manifest, "cpp") + extra, "main.cpp": main}
    said = compile_text(folder, files, program="program")
    assert said == "", said[:4000]
    done = subprocess.run([str(folder / "program")], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def any_names() -> ShaderManifest:
    """A network whose ports have names that are no identifiers."""
    ports = tuple(
        ShaderPort(name, "float32", ("n", 1 + index), (1,), 1 + index)
        for index, name in enumerate(NAMES)
    )
    base = tiny()
    (entry,) = base.entry_points
    arguments = tuple(
        Argument(f"argument_{index}", "buffer", index, "const device float *x", "input", name)
        for index, name in enumerate(NAMES)
    )
    words = ("int", "table", "points", "width", "error", "weights")
    spare = tuple(
        Argument(word, "buffer", 30 + index, "device float *y", "output", "y")
        for index, word in enumerate(words)
    )
    entry = replace(entry, name="dims", arguments=(*arguments, *spare))
    return replace(base, inputs=ports, entry_points=(entry,))


@POINTERS
@pytest.mark.parametrize("group", GROUPS)
def test_headers_are_accepted(group: tuple[str, ...], pointers: str, tmp_path: Path) -> None:
    files = {f"{name}.hpp": emit_shader(MANIFESTS[name], "cpp") for name in group}
    lines = [f'#include "{name}"\n' for name in (*files, *files)]
    files["main.cpp"] = "".join([*lines, "int main() { return 0; }\n"])
    assert compile_text(tmp_path, files, pointers) == ""


def test_any_names(tmp_path: Path) -> None:
    manifest = any_names()
    lines = printed(tmp_path, manifest, "")
    assert lines == []
    text = emit_shader(manifest, "cpp")
    for index, name in enumerate(NAMES):
        assert f"_FEATURES {1 + index} // input " in text, name


def strange_labels() -> ShaderManifest:
    """Weights of layers whose names would end a comment, a line or a string."""
    labels = ["fc\nint x = ;", "back\\", "*/ int y;", 'quote"', "??/"]
    blocks = field().blocks
    named = [replace(row, layer=label) for row, label in zip(blocks, labels, strict=False)]
    inputs = (replace(field().inputs[0], name="in\n#error"), field().inputs[1])
    entries = tuple(
        replace(
            entry,
            arguments=tuple(
                replace(row, port="in\n#error") if row.port == "position" else row
                for row in entry.arguments
            ),
        )
        for entry in field().entry_points
    )
    return replace(field(), blocks=tuple(named), inputs=inputs, entry_points=entries)


def test_labels_do_not_leave_their_comments(tmp_path: Path) -> None:
    files = {"net.hpp": emit_shader(strange_labels(), "cpp")}
    files["main.cpp"] = '#include "net.hpp"\nint main() { return 0; }\n'
    assert compile_text(tmp_path, files) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("setStrides(", "setStride("),
        (
            "newComputePipelineState(descriptor.get(), nullptr, &cause)",
            "newComputePipelineState(&cause)",
        ),
        ("setResource(tensors[0]->gpuResourceID()", "setResource(tensors[0]->gpuAddress()"),
    ],
)
def test_wrong_names_are_found(right: str, wrong: str, tmp_path: Path) -> None:
    text = emit_shader(field("handle"), "cpp")
    assert right in text
    files = {"net.hpp": text.replace(right, wrong)}
    files["main.cpp"] = '#include "net.hpp"\nint main() { return 0; }\n'
    assert "error" in compile_text(tmp_path, files)


BLOCK = """
{{
    const metal4conv_shader_block block = {function}();
    std::printf("%lu %lu %d %d %d", block.offset, block.byte_length, block.rank, block.data_type,
                block.index);
    for (int index = 0; index < block.rank; ++index) {{
        std::printf(" %ld %ld", block.dimensions[index], block.strides[index]);
    }}
    std::puts("");
}}
"""


def numbers_of(manifest: ShaderManifest) -> tuple[str, list[str]]:
    """Statements that print the numbers of a manifest, and what they have to print."""
    prefix, body, expected = manifest.name, "", []

    def show(macro: str, value: int) -> None:
        nonlocal body
        body += f'std::printf("%d\\n", {prefix.upper()}_{macro.upper()});\n'
        expected.append(str(value))

    for row in manifest.blocks:
        body += BLOCK.format(function=f"{prefix}_{row.name}_block")
        numbers = [row.offset, row.byte_length, len(row.dimensions), row.raw_data_type]
        numbers.append(-1 if row.index is None else row.index)
        for pair in zip(row.dimensions, row.strides, strict=True):
            numbers += pair
        expected.append(" ".join(map(str, numbers)))
        show(f"{row.name}_offset", row.offset)
        show(f"{row.name}_bytes", row.byte_length)
    for entry in manifest.entry_points:
        word = entry.name.removeprefix(f"{prefix}_")
        for argument in entry.arguments:
            if argument.index is not None and argument.kind != "threadgroup":
                show(f"{word}_{argument.name}_index", argument.index)
        body += f"std::puts({prefix}_{word}().name);\n"
        expected.append(entry.name)
    for port in (*manifest.inputs, *manifest.outputs):
        show(f"{port.name}_features", port.width)
    if manifest.weights_bytes:
        show("weights_byte_length", manifest.weights_bytes)
    return body, expected


@pytest.mark.parametrize("group", GROUPS)
def test_numbers_are_those_of_the_manifest(group: tuple[str, ...], tmp_path: Path) -> None:
    first, *others = [MANIFESTS[name] for name in group]
    shown = [numbers_of(manifest) for manifest in (first, *others)]
    body = "".join(statements for statements, _ in shown)
    extra = "\n".join(emit_shader(manifest, "cpp") for manifest in others)
    assert printed(tmp_path, first, body, f"\n{extra}") == [
        line for _, rows in shown for line in rows
    ]


def test_numbers_are_constants(tmp_path: Path) -> None:
    body = """
    static_assert(field_w1_block().strides[1] == 32, "");
    static_assert(metal4conv_shader_columns(field_compute(), 100, 7) == 11, "");
    static_assert(metal4conv_shader_rows(field_compute(), 7) == 1, "");
    static_assert(FIELD_W1_OFFSET == 2176 && FIELD_W1_BYTES == 1024, "");
    """
    assert printed(tmp_path, field(), body) == []


RUN = """
MTL::Device device;
MTL4::Compiler compiler;
MTL::Library library;
MTL4::ComputeCommandEncoder encoder;
const std::string file(FIELD_WEIGHTS_BYTE_LENGTH, 'x');
const std::string zeros(4096, '0');
bool uses = false;
const auto pipeline = field_make_pipeline(&compiler, &library, field_compute(), &uses, &error);
std::printf("matmul2d %d\\n", uses);
(void)encoder;
(void)pipeline;
const auto weights = field_make_weights(&device, file.data(), file.size(), &error);
const auto rows = metal4conv::make_buffer(&device, zeros.data(), zeros.size(), &error);
const auto light = metal4conv::make_buffer(&device, zeros.data(), 2 * 4, &error);
const auto parameters = metal4conv::make_parameters(&device, 10, 9, &error);
const auto table = metal4conv::argument_table(&device, field_compute(), &error);
"""


@pytest.mark.parametrize("refused", [False, True])
def test_a_dispatch_with_tensors(refused: bool, tmp_path: Path) -> None:
    body = f"""
    refuses_matmul2d = {str(refused).lower()};
    {RUN}
    field_tensors tensors;
    tell(field_make_tensors(weights.get(), tensors, &error));
    tell(field_bind_compute(table.get(), 10, 9, weights.get(), tensors, rows.get(), light.get(),
                            rows.get(), rows.get(), parameters.get(), &error));
    metal4conv::dispatch(&encoder, pipeline.get(), table.get(), field_compute(), 10, 9);
    """
    required = ["required 64 1 1"]
    tried = ["function field_compute", "constant 0 = 1", *required]
    again = ["function field_compute", "constant 0 = 0", *required] if refused else []
    assert printed(tmp_path, field("handle"), body) == [
        *tried,
        *again,
        f"matmul2d {int(not refused)}",
        "buffers 8",
        "textures 0",
        "samplers 0",
        "tensor at 0 d 32 32 s 1 32 t 16 u 3",
        "tensor at 2176 d 32 16 s 1 32 t 16 u 3",
        "1 ",
        "address 1000 at 0",
        "address 2000 at 3",
        "address 3000 at 4",
        "address 2000 at 5",
        "address 2000 at 6",
        "address 4000 at 7",
        "resource 100 at 1",
        "resource 101 at 2",
        "1 ",
        "pipeline",
        "table",
        "memory 12288 at 0",
        "dispatch 2 1 1 of 64 1 1",  # 90 points, 64 a threadgroup
    ]


def test_short_buffers_are_told(tmp_path: Path) -> None:
    body = f"""
    {RUN}
    tell(field_bind_compute(table.get(), 100, 100, weights.get(), rows.get(), light.get(),
                            rows.get(), rows.get(), parameters.get(), &error));
    tell(field_bind_compute(table.get(), 10, 9, light.get(), rows.get(), light.get(), rows.get(),
                            rows.get(), parameters.get(), &error));
    tell(bool(field_make_weights(&device, file.data(), 7, &error)));
    """
    lines = [line for line in printed(tmp_path, field(), body) if line.startswith(("0", "1"))]
    assert lines == [
        '0 buffer "position" has 4096 bytes, the shader uses 120000',
        '0 buffer "weights" has 8 bytes, the shader uses 3328',
        "0 field.weights has 7 bytes, expected 3328",
    ]


def test_a_fragment_function_with_textures(tmp_path: Path) -> None:
    body = """
    MTL::Device device;
    MTL::Library library;
    MTL4::RenderPipelineDescriptor descriptor;
    MTL4::RenderCommandEncoder encoder;
    std::string latents(MATERIAL_LATENTS_BYTE_LENGTH, 0);
    latents[0] = 1;
    latents[256] = 2;
    const std::string file(MATERIAL_WEIGHTS_BYTE_LENGTH, 'x');
    const auto weights = material_make_weights(&device, file.data(), file.size(), &error);
    material_textures textures;
    material_make_textures(&device, latents.data(), latents.size(), textures, &error);
    const auto sampler = material_make_sampler(&device);
    const auto table = metal4conv::argument_table(&device, material_fragment(), &error);
    material_set_fragment(&descriptor, &library, true);
    material_bind_fragment(table.get(), weights.get(), textures, sampler.get(), &error);
    material_draw_fragment(&encoder, nullptr, table.get());
    tell(material_make_textures(&device, latents.data(), 3, textures, &error));
    """
    assert printed(tmp_path, material(), body) == [
        "texture 70 8 4",
        "region 8 4",
        "rows 0 32 first byte 1",
        "texture 70 8 4",
        "region 8 4",
        "rows 0 32 first byte 2",
        *("min 1", "mag 1", "s 2", "t 2"),
        *("buffers 1", "textures 2", "samplers 1"),
        *("function material_vertex", "function material_fragment", "constant 0 = 1"),
        "address 1000 at 0",
        "texture 100 at 0",
        "texture 101 at 1",
        "sampler 7 at 0",
        *("pipeline", "table at 2", "draw 3 0 3"),
        "0 material.latents has 3 bytes, expected 384",
    ]


def test_passes_wait_for_one_another(tmp_path: Path) -> None:
    body = """
    MTL4::ComputeCommandEncoder encoder;
    denoiser_encode(&encoder, {nullptr, nullptr}, {nullptr, nullptr}, 17, 8);
    """
    one = ["pipeline", "table", "memory 8192 at 0", "dispatch 3 1 1 of 128 1 1"]
    stage = 1 << 27
    assert printed(tmp_path, denoiser(), body) == [*one, f"barrier {stage} {stage}", *one]


def test_images_between_passes_have_their_own_width_and_type() -> None:
    text = emit_shader(denoiser(), "cpp")
    assert '#define DENOISER_HIDDEN_FEATURES 8 // image "hidden", float16' in text
    assert "check_buffer(hidden, points * DENOISER_HIDDEN_FEATURES * 2" in text
    assert "check_buffer(clean, points * DENOISER_CLEAN_FEATURES * 4" in text


def test_weights_in_the_source_need_no_file() -> None:
    for language in ("cpp", "objc", "swift"):
        text = emit_shader(tiny(), language)
        assert "make_weights" not in text
        assert "makeWeights" not in text


def test_unknown_language() -> None:
    with pytest.raises(UsageError, match='no code is written in "rust"'):
        emit_shader(field(), "rust")


@pytest.mark.parametrize("language", ["cpp", "objc", "swift"])
def test_what_no_code_is_written_for_is_named(language: str) -> None:
    constant = FunctionConstant("field_quality", 1, "int", "how good")
    manifest = replace(field(), constants=(*field().constants, constant))
    with pytest.raises(UnsupportedModel, match="function constant field_quality"):
        emit_shader(manifest, language)
    (first, second) = field().entry_points
    strange = Argument("scene", "buffer", 20, "const device float *scene", "scene")
    manifest = replace(
        field(), entry_points=(first, replace(second, arguments=(*second.arguments, strange)))
    )
    with pytest.raises(
        UnsupportedModel, match='no code is written for a buffer that holds "scene"'
    ):
        emit_shader(manifest, language)
