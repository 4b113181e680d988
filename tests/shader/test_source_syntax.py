"""Generated source is C++ for a real grammar, apart from what Metal adds; and people can read it.

tree-sitter's grammar of C++ knows neither Metal's keywords nor attributes behind declarators. They
are taken out before parsing, and only those: whatever else is no C++ stays and is an error. What
is taken out is checked on its own: attributes are those that Metal has, with their numbers.

- The preprocessor's conditions are decided, once with matmul2d and once without.
- Address spaces (`device`, `constant`, `thread`, `threadgroup`) are dropped where they qualify a
  type; `kernel`, `vertex` and `fragment` before functions.
- `[[attributes]]` behind parameters and members are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import tree_sitter
import tree_sitter_cpp

from metal4conv.shader.document import SamplerLayout
from metal4conv.shader.options import ShaderOptions
from tests.shader import handmade
from tests.shader.handmade import Hand, written
from tests.shader.test_source import latent_layouts

ATTRIBUTE = re.compile(r"\[\[([^\[\]]*)\]\]")

KNOWN = re.compile(
    r"(function_constant|buffer|texture|sampler|threadgroup|color)\(\d+\)"
    r"|position|stage_in|vertex_id|thread_position_in_grid|thread_index_in_simdgroup"
    r"|simdgroup_index_in_threadgroup"
)

QUALIFIERS = re.compile(r"\b(device|constant|thread|threadgroup)\b(?=\s+[\w<])")
STAGES = re.compile(r"^(kernel|vertex|fragment)\b", re.MULTILINE)

SOURCES = {
    "neural_material": (handmade.neural_material, ShaderOptions()),
    "siren": (handmade.encoded_siren, ShaderOptions("float32", "handle")),
    "radiance_cache": (handmade.radiance_cache, ShaderOptions("int8", "handle", system=(26, 4))),
    "old_system": (handmade.radiance_cache, ShaderOptions("int8")),
    "tiny": (handmade.tiny, ShaderOptions(inline_weights=True)),
}


@pytest.fixture(scope="module", params=[*SOURCES, "textures"])
def text(request: pytest.FixtureRequest) -> str:
    if request.param == "textures":
        network = handmade.neural_material().network()
        return written(network, ShaderOptions(), latent_layouts(), SamplerLayout()).text
    make, options = SOURCES[request.param]
    return written(make().network(), options).text


def decided(text: str, has_matmul2d: bool) -> str:
    """The text without preprocessor conditions, as a compiler with or without matmul2d sees it."""
    kept: list[bool] = []
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("#if"):
            assert "HAS_MATMUL2D" in line or "defined(__HAVE_TENSOR__)" in line
            kept.append(has_matmul2d)
        elif line.startswith("#else"):
            kept[-1] = not kept[-1]
        elif line.startswith("#endif"):
            kept.pop()
        elif all(kept):
            lines.append(line)
    assert not kept
    return "\n".join(lines)


def as_cpp(text: str) -> str:
    """The text without what Metal adds to C++."""
    return STAGES.sub("", QUALIFIERS.sub("", ATTRIBUTE.sub("", text)))


def problems(text: str) -> list[str]:
    """What the grammar does not understand or misses."""
    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_cpp.language()))
    data = text.encode()

    def visit(node: tree_sitter.Node) -> Iterator[str]:
        if node.is_error or node.is_missing:
            line = data.splitlines()[node.start_point.row].decode()
            yield f"line {node.start_point.row + 1}: {line}"
        for child in node.children:
            yield from visit(child)

    return list(visit(parser.parse(data).root_node))


@pytest.mark.parametrize("has_matmul2d", [True, False])
def test_grammar_of_cpp(text, has_matmul2d):
    assert problems(as_cpp(decided(text, has_matmul2d))) == []


def test_grammar_finds_mistakes():
    """A lost parenthesis, semicolon or brace is seen."""
    text = as_cpp(decided(written(handmade.tiny().network(), ShaderOptions()).text, True))
    for before, after in (("0.0f);", "0.0f;"), ("outputs;\n", "outputs\n"), ("{\n", "\n")):
        place = text.rindex(before)
        assert problems(text[:place] + after + text[place + len(before) :])


def test_attributes_are_those_of_metal(text):
    found = ATTRIBUTE.findall(text)
    assert found
    assert all(KNOWN.fullmatch(attribute) for attribute in found)


def test_indices_of_a_function_are_its_own(text):
    """No two parameters of a function share a buffer, texture or sampler."""
    for parameters in re.findall(r"^(?:kernel|fragment) [^{]*", text, re.MULTILINE):
        indexed = [one for one in ATTRIBUTE.findall(parameters) if "(" in one]
        assert len(indexed) == len(set(indexed))


def test_lines_fit(text):
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\t" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_all_at_file_scope_begins_with_the_name(text):
    name = re.search(r"^// (\w+)\.metal", text).group(1)
    declared = re.findall(
        r"^(?:inline|constant|struct|using|kernel|fragment|vertex)\b(?! namespace)"
        r"[^;{(=\[]*?(\w+)(?: \[\[.*\]\];|;|\(|\[\]| =| \{)",
        text,
        re.MULTILINE,
    )
    assert len(declared) > 8
    assert all(word.startswith(f"{name}_") for word in declared)
    macros = re.findall(r"#define (\w+)", text)
    assert all(word.startswith(f"{name.upper()}_") for word in macros)


def functions_of(text: str) -> dict[str, str]:
    """The bodies of a source's functions by name."""
    found = re.findall(r"^[\w :<>,]*?(\w+)\((?:[^{}]*)\)\n\{\n(.*?)^\}", text, re.MULTILINE | re.S)
    return dict(found)


@pytest.mark.parametrize("make", [handmade.neural_material, handmade.radiance_cache])
def test_one_comment_a_layer(make):
    network = make().network()
    functions = functions_of(written(network, ShaderOptions()).text)
    for name in (f"{network.name}_evaluate", f"{network.name}_evaluate_tile"):
        comments = re.findall(r"// layer (\d+): linear (\d+) -> (\d+)", functions[name])
        assert [tuple(map(int, found)) for found in comments] == [
            (number, linear.operand.width, linear.result.width)
            for number, linear in enumerate(network.program.linears)
        ]


def test_every_block_of_statements_has_its_comment():
    """What stands between empty lines of the network's functions begins with a comment."""
    functions = functions_of(written(handmade.encoded_siren().network(), ShaderOptions()).text)
    for name in ("siren_evaluate", "siren_evaluate_tile"):
        for block in functions[name].split("\n\n")[1:]:
            assert block.lstrip().startswith("// ")


def test_no_unnamed_sizes(text):
    """Sizes and offsets of layers have names: numbers above 1 stand in the network's functions
    only in index maps, the lengths of their pieces, and the network's own constants.
    """
    for name, body in functions_of(text).items():
        if not name.endswith(("_evaluate", "_evaluate_tile")):
            continue
        for line in body.splitlines():
            code = line.split("//")[0]
            if "weights +" in code or "_multiply" in code or "[=]" in code:
                assert not re.search(r"(?<![\w.])\d{2,}", code), line
        sizes = re.findall(r"(?:half|float) \w+\[([^\]]*)\]", body)
        assert all(size.endswith(("_inputs", "_outputs", "_width")) for size in sizes)


def test_every_constant_is_used(text):
    """But the weights' sizes, which all layers have."""
    for name in re.findall(r"^constant constexpr int (\w+)", text, re.MULTILINE):
        assert len(re.findall(rf"\b{name}\b", text)) > 1


def test_words_of_the_header():
    text = written(handmade.tiny().network(), ShaderOptions()).text
    head = text[: text.index("#include")]
    for word in ("tiny.metal", "y (1) of x (2)", "tiny_evaluate(inputs, weights)", "tiny_compute",
                 "tiny_fragment", "tiny.weights", "128 bytes", "function constant 0"):  # fmt: skip
        assert word in " ".join(line.removeprefix("// ") for line in head.splitlines())


def test_long_names_still_fit():
    hand = Hand("old_castle_wall_material")
    hidden = hand.layer("hidden", hand.input("latents", 8), 32, "gelu")
    hand.output("base_color", hand.layer("base_color", hidden, 3, "sigmoid"))
    text = written(hand.network(), ShaderOptions()).text
    code = [line for line in text.splitlines() if not line.lstrip().startswith("//")]
    assert max(map(len, code)) <= 100
    assert problems(as_cpp(decided(text, True))) == []
