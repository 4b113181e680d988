"""Compiling a shader: as C++ against the stand-in headers, so that it runs here, or with Xcode.

The stand-in (`stand_in/`) is test equipment: that a shader compiles against it and computes the
right numbers proves the shader's arithmetic, indices and use of threads, not that Apple's compiler
takes it. `compile_with_metal` asks that compiler, where it is.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import logging
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metal4conv.errors import MissingDependency, MissingDevice, RejectedShader, UsageError
from metal4conv.lazy import install_line
from metal4conv.shader.document import ShaderManifest
from metal4conv.shader.driver import driver_source
from metal4conv.shader.source_rules import broken_source_rules

log = logging.getLogger("metal4conv.shader")

STAND_IN = Path(__file__).with_name("stand_in")

OLDEST_CLANG = 20
"""Function effects came with clang 20; they find a simdgroup's operation in a fragment function."""

TIMEOUT = 300.0
"""Seconds for a compiler; the first use of ziglang builds its parts of the C library."""

LAST_LINES = 20
"""Lines of what a compiler printed that an error shows."""

FLAGS = (
    *("-x", "c++", "-std=c++23", "-O2", "-shared", "-fPIC", "-nostdlib++", "-fvisibility=hidden"),
    *("-fsigned-char", "-fno-exceptions", "-fno-rtti", "-fno-sanitize=undefined"),
    *("-Xclang", "-ffloat16-excess-precision=none", "-mllvm", "-pragma-unroll-threshold=64"),
    *("-Wno-unknown-attributes", "-Wno-ignored-attributes", "-Wno-reserved-user-defined-literal"),
    *("-Wno-user-defined-literals", "-Wframe-larger-than=131072", "-Werror=frame-larger-than"),
    *("-Werror=function-effects", "-fno-color-diagnostics"),
)
"""Of clang. Arithmetic of half is rounded after each operation, as a GPU does. Loops that a shader
unrolls stay loops, which halves the time to compile.
"""

PROBE = """
#if !__has_attribute(nonblocking)
#error "it does not know function effects, which came with clang 20"
#endif
typedef _Float16 half;
typedef half half4 __attribute__((ext_vector_type(4)));
#define device __attribute__((address_space(1)))
template <class T> struct space { static constexpr int value = 0; };
template <class T> struct space<device T> { static constexpr int value = 1; };
static_assert(space<device half>::value == 1);
struct tensor { half *data; half &operator[](int i, int j) const { return data[i + j]; } };
float first(device half4 *values, tensor t) __attribute__((nonblocking));
float first(device half4 *values, tensor t) { return values[0].x + t[0, 1] + (__bf16)1.0f; }
"""
"""What a compiler has to know: float16, vectors, address spaces, effects, C++23."""

RULE = re.compile(r"error: .*\brule: (.*)$")
EFFECT = re.compile(r"error: .*'nonblocking'.* must not call")
PLACE = re.compile(r"^(?P<file>.*?):(?P<line>\d+):\d+: (?P<kind>error|note): (?P<text>.*)$")

FRAGMENT_RULE = (
    "a fragment function uses no barrier and no scope but execution_thread (MPPTensorOpsMatMul2d.h)"
)


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C++ as clang does, and the first line that it says of itself."""

    command: tuple[str, ...]
    version: str


@dataclass(frozen=True)
class MetalCompilation:
    """What Apple's compiler made of a shader: its warnings, and the file where one was wanted."""

    command: tuple[str, ...]
    messages: str
    output: Path | None


@dataclass(frozen=True)
class HostBuild:
    """How a shader is compiled for this computer; for tests of the rules and of other systems.

    `system` is the oldest one as `(26, 0)`, None for the manifest's; `without_tensors` is a
    compiler that knows no tensors, so that the shader has its plain path alone; `drop_remainder`
    turns the rule about a static k off and drops the remainder instead; `unoptimised` compiles in
    half of the time and runs slowly.
    """

    system: tuple[int, int] | None = None
    without_tensors: bool = False
    drop_remainder: bool = False
    unoptimised: bool = False

    def flags(self, manifest: ShaderManifest) -> list[str]:
        """The compiler's flags that say so."""
        major, minor = self.system or manifest.system
        made = [f"-DMETAL4CONV_STAND_IN_SYSTEM={100 * major + minor}"]
        if self.unoptimised:
            made.append("-O0")
        if self.without_tensors:
            made.append("-DMETAL4CONV_STAND_IN_WITHOUT_TENSORS")
        if self.drop_remainder:
            made.append("-DMETAL4CONV_STAND_IN_DROP_REMAINDER")
        return made


def find_compiler() -> Compiler:
    """A clang that can compile shaders: `$CXX`, `clang++`, Xcode's, or the package ziglang's.

    `MissingDependency` says how to get one, and what is wrong with those that are here.
    """
    return usable_compiler(os.environ.get("CXX", ""), os.environ.get("PATH", ""))


@functools.cache
def usable_compiler(chosen: str, path: str) -> Compiler:
    """The first usable compiler, with `$CXX` and `$PATH` as they are; each is asked once."""
    refused = []
    for command in candidates(chosen, path):
        try:
            version = first_line_of(command, "--version")
            check_compiler(command)
        except (OSError, subprocess.SubprocessError, RejectedShader) as error:
            refused.append(f"{shlex.join(command)}: {str(error).splitlines()[0]}")
            continue
        return Compiler(command, version)
    raise MissingDependency(
        "there is no clang here that can compile the shader's source for this computer",
        where=refused,
        hint=f"run: {install_line('ziglang', 'shader')}, or set CXX to clang++ {OLDEST_CLANG} or "
        "newer",
    )


def candidates(chosen: str, path: str) -> Iterator[tuple[str, ...]]:
    """The commands to try, in their order."""
    if chosen:
        yield tuple(shlex.split(chosen))
    if found := shutil.which("clang++", path=path):
        yield (found,)
    if sys.platform == "darwin" and (xcrun := shutil.which("xcrun", path=path)):
        yield (xcrun, "clang++")
    if importlib.util.find_spec("ziglang") is not None:
        yield (sys.executable, "-m", "ziglang", "c++")


def check_compiler(command: Sequence[str]) -> None:
    """`RejectedShader` when a compiler does not know what the stand-in is written in."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text(PROBE)
        output = Path(folder) / "probe.so"
        done = run_compiler([*command, *all_flags(), "-o", str(output), str(source)])
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if "error" in line]
            raise RejectedShader(f"does not compile the test program ({(lines or ['?'])[0]})")


def all_flags() -> list[str]:
    """The flags on this computer: with all instructions of its processor, as float16 needs some."""
    native = ["-march=native"] if platform.machine().lower() in ("x86_64", "amd64") else []
    return [*FLAGS, *native]


def first_line_of(command: Sequence[str], argument: str) -> str:
    """What a command prints first."""
    done = subprocess.run(
        [*command, argument], capture_output=True, text=True, timeout=TIMEOUT, check=True
    )
    return (done.stdout.splitlines() or [""])[0]


def run_compiler(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Runs a compiler to its end, whatever it says."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
        env=environment(),
        check=False,
    )


def environment() -> dict[str, str]:
    """This process's, in which ziglang finds a folder for its parts of the C library."""
    known = dict(os.environ)
    home = Path(known.get("XDG_CACHE_HOME") or Path(known.get("HOME", "/")) / ".cache")
    above = next((folder for folder in (home, *home.parents) if folder.exists()), home)
    if not os.access(above, os.W_OK):
        cache = Path(tempfile.gettempdir()) / f"metal4conv-ziglang-{os.getuid()}"
        known.setdefault("ZIG_GLOBAL_CACHE_DIR", str(cache))
    return known


def compile_for_host(
    source: Path, manifest: ShaderManifest, folder: Path, build: HostBuild | None = None
) -> Path:
    """The shared library of a shader in `folder`, through which `host` runs its entry points.

    Its name holds a hash of all that it is made from; one that is there already is taken.
    `RejectedShader` names the rules that the source breaks, or has the compiler's messages.
    """
    build = build or HostBuild()
    compiler = find_compiler()
    text = read_source(source)
    check_source(source, text)
    driver = driver_source(manifest)
    flags = [*all_flags(), *build.flags(manifest)]
    key = "\0".join((compiler.version, *compiler.command, *flags, driver, text, headers_hash()))
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    library = folder / f"{manifest.name}-{digest}.so"
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        work = Path(temporary)
        (work / "shader.metal").write_text(for_clang(text, source.name), "utf-8")
        (work / "driver.cpp").write_text(driver, "utf-8")
        made = work / library.name
        command = [*compiler.command, *flags, f"-I{STAND_IN}", "-o", str(made)]
        done = run_compiler([*command, str(work / "driver.cpp"), *libraries()])
        if done.returncode or not made.is_file():
            raise rejection(source, done.stderr)
        made.replace(library)
    return library


def libraries() -> list[str]:
    """What is linked: the C library's mathematics, where it is a file of its own."""
    return [] if sys.platform == "darwin" else ["-lm"]


def read_source(source: Path) -> str:
    """The text of a shader."""
    try:
        return source.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"no such file: {source}") from None
    except UnicodeDecodeError as error:
        raise RejectedShader(f"{source} is no text: {error}") from None


@functools.cache
def headers_hash() -> str:
    """A hash of the stand-in's headers."""
    digest = hashlib.sha256()
    for file in sorted(STAND_IN.rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def for_clang(text: str, name: str) -> str:
    """A shader's text with the one change that clang's preprocessor cannot make.

    `threadgroup` is a qualifier and the name of an attribute; a macro cannot be both.

    >>> print(for_clang("kernel void k(threadgroup half *t [[threadgroup(0)]]);", "k.metal"))
    #line 1 "k.metal"
    kernel void k(threadgroup half *t [[threadgroup_index(0)]]);
    """
    renamed = re.sub(r"\[\[\s*threadgroup\s*\(", "[[threadgroup_index(", text)
    return f'#line 1 "{name}"\n{renamed}'


def check_source(source: Path, text: str) -> None:
    """`RejectedShader` where a text breaks rules that clang does not know of."""
    found = broken_source_rules(text)
    if found:
        raise rule_rejection(
            source, [(one.rule, f"{source.name}, line {one.line}") for one in found]
        )


def rule_rejection(source: Path, rules: Sequence[tuple[str, str]]) -> RejectedShader:
    """The error for broken rules, each with its place."""
    return RejectedShader(
        f"{source.name} breaks {'a rule' if len(rules) == 1 else 'rules'} of Metal",
        where=[f"{place}: {rule}" for rule, place in rules[:LAST_LINES]],
        hint="these are rules of Apple's headers and of the Metal Shading Language Specification",
    )


def rejection(source: Path, output: str) -> RejectedShader:
    """The error for what a compiler printed: the rules that are broken, or its own words."""
    log.info("what the compiler printed:\n%s", output)
    rules = dict.fromkeys(broken_rules(source.name, output))
    if rules:
        error = rule_rejection(source, list(rules))
    else:
        found = list(errors_with_reasons(output.splitlines())) or output.splitlines()
        error = RejectedShader(
            f"{source.name} does not compile as C++ against the stand-in headers",
            where=found[:LAST_LINES],
            hint="-v shows all that the compiler printed",
        )
    error.output = output
    return error


def errors_with_reasons(lines: Sequence[str]) -> Iterator[str]:
    """Each error of a compiler, with the note after it, where there is one."""
    has_reason = True
    for line in lines:
        place = PLACE.match(line)
        if place is None:
            continue
        if place["kind"] == "error" or not has_reason:
            yield line
        has_reason = place["kind"] == "note"


def broken_rules(name: str, output: str) -> Iterator[tuple[str, str]]:
    """The rules in a compiler's messages, each with the shader's line that broke it.

    A rule is checked deep in the headers; the first line of the shader among the notes after it
    is what led there.
    """
    lines = output.splitlines()
    for number, line in enumerate(lines):
        if found := RULE.search(line):
            yield found[1], place_after(name, lines, number)
        elif EFFECT.search(line):
            yield FRAGMENT_RULE, place_after(name, lines, number)


def place_after(name: str, lines: Sequence[str], number: int) -> str:
    """Where in the shader an error is: its own line, or that of the first note about the shader."""
    for line in lines[number:]:
        place = PLACE.match(line)
        if place is None:
            continue
        if place["kind"] == "error" and line is not lines[number]:
            break
        if Path(place["file"]).name == name:
            return f"{name}, line {place['line']}"
    return name


def compile_with_metal(source: Path, folder: Path | None = None) -> MetalCompilation:
    """Compiles a shader with Apple's compiler as MSL 4.0 for macOS; the file stays in `folder`.

    `MissingDevice` where that compiler is not, `RejectedShader` with its messages.
    """
    xcrun = shutil.which("xcrun")
    if xcrun is None:
        raise MissingDevice(
            "Apple's Metal compiler is not here: there is no xcrun",
            hint="run this on a Mac with Xcode 26, or see --on host for the C++ stand-in",
        )
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(folder or temporary) / f"{source.stem}.air"
        command = (xcrun, "-sdk", "macosx", "metal", "-std=metal4.0", "-c", str(source))
        done = run_compiler([*command, "-o", str(output)])
        messages = (done.stdout + done.stderr).strip()
        if done.returncode and re.search(r"unable to find|cannot execute tool", messages):
            raise MissingDevice(
                "Apple's Metal compiler is not here",
                where=messages.splitlines()[:LAST_LINES],
                hint="run: xcodebuild -downloadComponent MetalToolchain",
            )
        if done.returncode or not output.is_file():
            lines = [line for line in messages.splitlines() if "error" in line]
            error = RejectedShader(
                f"Apple's Metal compiler does not take {source.name}",
                where=(lines or messages.splitlines())[:LAST_LINES],
                hint=f"run: {shlex.join(command)}",
            )
            error.output = messages
            raise error
        return MetalCompilation(
            (*command, "-o", str(output)), messages, None if folder is None else output
        )
