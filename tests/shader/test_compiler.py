"""Finding a compiler, what it is asked, and what is made of its messages."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from metal4conv.errors import MissingDependency, MissingDevice, RejectedShader, UsageError
from metal4conv.shader import compiler as compilers
from metal4conv.shader.compiler import (
    Compiler,
    HostBuild,
    compile_for_host,
    compile_with_metal,
    find_compiler,
    rejection,
)
from tests.shader.pieces import Piece, buffer, compute

ONES = "kernel void ones(device float *y [[buffer(0)]], uint p) { y[p] = 1.0f; }\n"
UNOPTIMISED = HostBuild(unoptimised=True)


@pytest.fixture
def fresh() -> Iterator[None]:
    """No compiler is remembered."""
    compilers.usable_compiler.cache_clear()
    yield
    compilers.usable_compiler.cache_clear()


def script(folder: Path, name: str, text: str) -> Path:
    """A program in a folder."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def piece(folder: Path, text: str = ONES) -> Piece:
    """A shader with one function, in a file."""
    source = folder / "ones.metal"
    source.write_text(text)
    entry = compute("ones", buffer("output", "y"), buffer("output", "p"), threads=1)
    return Piece(source, (entry,), outputs={"y": 1})


GOOD = 'case "$1" in --version) echo "clang version 20.1";; esac'
OLD = """case "$1" in --version) echo "clang version 14.0";;
*) echo "x.cpp:1:1: error: what is nonblocking?" >&2; exit 1;; esac"""


@pytest.mark.usefixtures("fresh")
def test_the_order_of_compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = script(tmp_path, "chosen", GOOD)
    found = script(tmp_path, "clang++", GOOD)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CXX", str(chosen))
    assert find_compiler() == Compiler((str(chosen),), "clang version 20.1")
    monkeypatch.delenv("CXX")
    assert find_compiler().command == (str(found),)
    found.unlink()
    monkeypatch.setattr(sys, "platform", "darwin")
    xcrun = script(tmp_path, "xcrun", GOOD.replace("$1", "$2"))
    compilers.usable_compiler.cache_clear()
    assert find_compiler().command == (str(xcrun), "clang++")


@pytest.mark.usefixtures("fresh")
def test_a_compiler_that_cannot_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: Compiler
) -> None:
    script(tmp_path, "clang++", OLD)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CXX", "/no/such/compiler")
    assert find_compiler().command[-3:] == ("-m", "ziglang", "c++")


@pytest.mark.usefixtures("fresh")
def test_no_compiler_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "clang++", OLD)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingDependency) as caught:
        find_compiler()
    assert "what is nonblocking?" in caught.value.where[0]
    assert "pip install 'metal4conv[shader]'" in str(caught.value)


def test_a_library_is_made_once(tmp_path: Path, compiler: Compiler) -> None:
    one = piece(tmp_path)
    folder = tmp_path / "build"
    first = compile_for_host(one.source, one.manifest(), folder, UNOPTIMISED)
    written = first.stat().st_mtime_ns
    assert compile_for_host(one.source, one.manifest(), folder, UNOPTIMISED) == first
    assert first.stat().st_mtime_ns == written
    other = piece(tmp_path, ONES.replace("1.0f", "2.0f"))
    assert compile_for_host(other.source, other.manifest(), folder, UNOPTIMISED) != first
    assert len(list(folder.iterdir())) == 2


def test_the_message_of_what_does_not_compile(tmp_path: Path, compiler: Compiler) -> None:
    one = piece(tmp_path, "\n\n" + ONES.replace("y[p]", "z[p]"))
    with pytest.raises(RejectedShader) as caught:
        compile_for_host(one.source, one.manifest(), tmp_path / "build")
    assert str(caught.value).splitlines()[:2] == [
        "ones.metal does not compile as C++ against the stand-in headers",
        "  at ones.metal:3:59: error: use of undeclared identifier 'z'",
    ]
    assert "1 error generated" in caught.value.output
    assert list((tmp_path / "build").iterdir()) == []


def test_what_the_compiler_printed_is_in_the_log(
    tmp_path: Path, compiler: Compiler, caplog: pytest.LogCaptureFixture
) -> None:
    one = piece(tmp_path, ONES.replace("y[p]", "z[p]"))
    with caplog.at_level("INFO", "metal4conv"), pytest.raises(RejectedShader):
        compile_for_host(one.source, one.manifest(), tmp_path / "build")
    assert "1 error generated" in caplog.text


def test_a_source_that_is_not_there(tmp_path: Path, compiler: Compiler) -> None:
    one = piece(tmp_path)
    one.source.unlink()
    with pytest.raises(UsageError, match="no such file"):
        compile_for_host(one.source, one.manifest(), tmp_path)


def test_each_broken_rule_is_told_once() -> None:
    output = "\n".join(
        [
            "matmul2d.h:10:2: error: static assertion failed due to requirement 'x': rule: one",
            "m.metal:7:3: note: in instantiation of function template",
            "m.metal:9:3: note: in instantiation of function template",
            "matmul2d.h:10:2: error: static assertion failed due to requirement 'x': rule: one",
            "m.metal:7:3: note: in instantiation of function template",
            "m.metal:20:3: error: function with 'nonblocking' attribute must not call "
            "non-'nonblocking' function 'f'",
        ]
    )
    error = rejection(Path("m.metal"), output)
    assert error.message == "m.metal breaks rules of Metal"
    assert error.where == (
        "m.metal, line 7: one",
        f"m.metal, line 20: {compilers.FRAGMENT_RULE}",
    )


def test_a_driver_for_too_many_constants(tmp_path: Path) -> None:
    one = piece(tmp_path)
    one.constants = ("a", "b", "c", "d")
    with pytest.raises(RejectedShader, match=r"indices \[0, 1, 2, 3\]"):
        compilers.driver_source(one.manifest())


@pytest.mark.parametrize("target", ["aarch64-macos", "aarch64-linux-gnu", "x86_64-macos"])
def test_the_headers_are_for_other_processors(
    target: str, tmp_path: Path, compiler: Compiler
) -> None:
    if "ziglang" not in compiler.command:
        pytest.skip("only ziglang compiles for other systems")
    one = piece(tmp_path)
    (tmp_path / "shader.metal").write_text(compilers.for_clang(ONES, "ones.metal"))
    (tmp_path / "driver.cpp").write_text(compilers.driver_source(one.manifest()))
    flags = [flag for flag in compilers.FLAGS if flag != "-shared"]
    done = compilers.run_compiler(
        [
            *(*compiler.command, *flags, "-target", target, f"-I{compilers.STAND_IN}"),
            *("-c", "-O0", "-o", str(tmp_path / "x.o"), str(tmp_path / "driver.cpp")),
        ]
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def fake_xcrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a program called xcrun on the path."""

    def make(text: str) -> None:
        script(tmp_path, "xcrun", text)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_metal_compiles(tmp_path: Path, fake_xcrun: Callable[[str], None]) -> None:
    fake_xcrun('[ "$3 $4 $5" = "metal -std=metal4.0 -c" ] || exit 9; echo air > "$8"')
    source = piece(tmp_path).source
    done = compile_with_metal(source, tmp_path)
    assert done.output == tmp_path / "ones.air"
    assert done.command[1:] == (
        *("-sdk", "macosx", "metal", "-std=metal4.0", "-c", str(source)),
        *("-o", str(tmp_path / "ones.air")),
    )


def test_metal_refuses(tmp_path: Path, fake_xcrun: Callable[[str], None]) -> None:
    fake_xcrun('echo "ones.metal:1:2: error: no" >&2; exit 1')
    with pytest.raises(RejectedShader, match=r"does not take ones.metal") as caught:
        compile_with_metal(piece(tmp_path).source)
    assert caught.value.where == ("ones.metal:1:2: error: no",)


@pytest.mark.parametrize("text", [None, "echo \"error: cannot execute tool 'metal'\" >&2; exit 1"])
def test_metal_is_not_here(
    text: str | None,
    tmp_path: Path,
    fake_xcrun: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    if text is not None:
        fake_xcrun(text)
    with pytest.raises(MissingDevice, match="Apple's Metal compiler is not here"):
        compile_with_metal(piece(tmp_path).source, tmp_path)
