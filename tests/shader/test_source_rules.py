"""Rules of Metal that no C++ compiler knows of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from metal4conv.errors import RejectedShader
from metal4conv.shader.host import HostShader
from metal4conv.shader.source_rules import broken_source_rules
from tests.shader.pieces import MSL

GOLDEN = sorted((Path(__file__).parents[1] / "golden" / "shader").glob("*.metal"))

SPACE = "a pointer or reference names its address space: device, constant, thread or threadgroup"
SCOPE = "a variable at file scope lies in constant memory"

BROKEN = {
    "inline float f(const float *x) { return x[0]; }": SPACE,
    "inline void f(thread float *x) { half4 *y = (thread half4 *)x; }": SPACE,
    "void f(tensor<device half, dextents<int, 2>> &w) {}": SPACE,
    "struct rows { const float *first; };": SPACE,
    "struct rows { float x; }; float f(const rows &all) { return all.x; }": SPACE,
    "void f(const metal::float4 &x) {}": SPACE,
    "int count = 3;": SCOPE,
    "const float table[] = {1.0f, 2.0f};": SCOPE,
    "constexpr sampler s(filter::linear); float unset;": SCOPE,
    "void f() { double x = 1.0f; }": "Metal has no double",
    "float f(float x) { if (x > 0.0f) goto end; end: return x; }": "Metal has no goto",
    "struct a { virtual void f(); };": "Metal has no virtual",
    "struct a : b { int x; };": "Metal has no derived classes",
    "float f(float x) { return x * 1.5; }": "1.5 says whether it is float or half: 1.5f or 1.5h",
    "float f() { return 1e-3; }": "1e-3 says whether it is float or half: 1e-3f or 1e-3h",
}

FINE = (
    "constant int count = 3; constant bool fast [[function_constant(0)]];",
    "constant float table[] = {1.0f, .5f, 1e-3f, 0x1p-3f, 2.0h};",
    "inline float f(float a, float b) { return a * b + float(int(a) & 3) * b; }",
    "inline float f(float4 a) { return a.x * a.y; } // const float *x, 1.5, double",
    "template <typename W> inline int area() { return W::width * W::height; }",
    "template <typename T> inline void f(thread T &x, T y) { thread auto &z = x; z = y; }",
    "void f(thread tensor<device half, dextents<int, 2>> &w, int x) { bool y = x < 3 && x > 1; }",
    "kernel void f(const device half4 *const x [[buffer(0)]], threadgroup uchar *tile);",
    "void f(float y) { y = (float)y * 2.0f; auto g = [&](int i) { return i; }; }",
    "using rows = device float *; struct pair { float a; int b[2]; };",
    "#define TWICE(x) (2.0 * (x))\nconstexpr constant int n = 1;",
)


@pytest.mark.parametrize("text", BROKEN)
def test_broken(text: str) -> None:
    assert [found.rule for found in broken_source_rules(text)] == [BROKEN[text]]


@pytest.mark.parametrize("text", FINE)
def test_fine(text: str) -> None:
    assert broken_source_rules(text) == []


@pytest.mark.parametrize(
    "path", [*GOLDEN, *sorted(MSL.glob("*.metal"))], ids=lambda path: path.name
)
def test_sources_that_are_right(path: Path) -> None:
    assert broken_source_rules(path.read_text()) == []


def test_a_shader_is_refused_with_its_lines(shader_of: Callable[..., HostShader]) -> None:
    text = "rules\nint count = 3;\n\ninline float f(const float *x) { return x[0]; }\n"
    with pytest.raises(RejectedShader, match=r"rules.metal breaks rules of Metal") as caught:
        shader_of(text).opened()
    assert caught.value.where == (f"rules.metal, line 1: {SCOPE}", f"rules.metal, line 3: {SPACE}")
