"""Outputs appear all at once or not at all, and only where they changed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metal4conv.errors import OutputError
from metal4conv.outputs import Stage, depfile_text, same_content, staged, write_file
from tests.conftest import tree_hash

LONG_AGO = 1_000_000_000


def write_all(stage: Stage, text: str) -> None:
    """Two files and a folder with a file in a folder."""
    stage.path("a.json").write_text(f"a {text}")
    stage.path("b.json").write_text(f"b {text}")
    package = stage.path("net.mlpackage")
    (package / "Data").mkdir(parents=True)
    (package / "Data" / "weight.bin").write_text(f"weight {text}")
    (package / "Manifest.json").write_text(f"manifest {text}")


def outputs(folder: Path, text: str) -> Stage:
    """The outputs, written to `folder`, and made old."""
    with staged(folder) as stage:
        write_all(stage, text)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (LONG_AGO, LONG_AGO))
    return stage


def names(folder: Path) -> list[str]:
    """Everything directly in a folder; a temporary name left behind shows up here."""
    return sorted(path.name for path in folder.iterdir())


NAMES = ["a.json", "b.json", "net.mlpackage"]


def test_outputs_appear_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "some" / "where"
    with staged(target) as stage:
        write_all(stage, "first")
        assert not any((target / name).exists() for name in NAMES)
    assert names(target) == NAMES
    assert stage.written == [target / name for name in NAMES]
    assert stage.unchanged == []
    assert (target / "net.mlpackage" / "Data" / "weight.bin").read_text() == "weight first"


def test_what_did_not_change_keeps_its_time(tmp_path: Path) -> None:
    outputs(tmp_path, "first")
    package = tmp_path / "net.mlpackage"
    with staged(tmp_path) as stage:
        write_all(stage, "first")
        stage.path("b.json").write_text("other")
    assert stage.unchanged == [tmp_path / "a.json", package]
    assert stage.written == [tmp_path / "b.json"]
    for path in (tmp_path / "a.json", package, *package.rglob("*")):
        assert path.stat().st_mtime == LONG_AGO, path
    assert (tmp_path / "b.json").stat().st_mtime > LONG_AGO
    assert names(tmp_path) == NAMES


@pytest.mark.parametrize("change", ["other content", "same length", "one more", "one less"])
def test_a_folder_is_replaced_as_a_whole(change: str, tmp_path: Path) -> None:
    outputs(tmp_path, "first")
    package = tmp_path / "net.mlpackage"
    with staged(tmp_path) as stage:
        write_all(stage, "first")
        new = stage.path("net.mlpackage")
        match change:
            case "other content":
                (new / "Data" / "weight.bin").write_text("something else")
            case "same length":
                (new / "Data" / "weight.bin").write_text("weight FIRST")
            case "one more":
                (new / "Data" / "extra.bin").write_text("extra")
            case "one less":
                (new / "Manifest.json").unlink()
        expected = tree_hash(new)
    assert stage.written == [package]
    assert tree_hash(package) == expected
    assert names(tmp_path) == NAMES


def test_times_alone_are_no_change(tmp_path: Path) -> None:
    outputs(tmp_path, "first")
    # filecmp compares size and time before the content, and keeps what it found
    for _ in range(2):
        with staged(tmp_path) as stage:
            write_all(stage, "first")
            for path in stage.folder.rglob("*"):
                os.utime(path, (LONG_AGO + 5, LONG_AGO + 5))
        assert stage.written == []


def test_a_file_in_the_place_of_a_folder_and_the_reverse(tmp_path: Path) -> None:
    outputs(tmp_path, "first")
    with staged(tmp_path) as stage:
        stage.path("net.mlpackage").write_text("a file")
        stage.path("a.json").mkdir()
        (stage.path("a.json") / "inner").write_text("a folder")
    assert (tmp_path / "net.mlpackage").read_text() == "a file"
    assert (tmp_path / "a.json" / "inner").read_text() == "a folder"
    assert names(tmp_path) == NAMES


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text("precious")
    target = tmp_path / "out"
    target.mkdir()
    (target / "a.json").symlink_to(elsewhere)
    (target / "b.json").symlink_to(tmp_path / "nothing")
    with staged(target) as stage:
        stage.path("a.json").write_text("new")
        stage.path("b.json").write_text("new")
    assert elsewhere.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()
    for name in ("a.json", "b.json"):
        assert not (target / name).is_symlink()
        assert (target / name).read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_in_the_block_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    outputs(tmp_path, "first")
    before = tree_hash(tmp_path)

    def fail() -> None:
        with staged(tmp_path) as stage:
            write_all(stage, "second")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert tree_hash(tmp_path) == before
    assert names(tmp_path) == NAMES


def test_a_failure_leaves_no_new_folders(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    with pytest.raises(ValueError, match="bad"), staged(tmp_path / "some" / "where" / "deep"):
        raise ValueError("bad")
    assert names(tmp_path) == ["some"]
    assert names(tmp_path / "some") == []


@pytest.mark.parametrize("failing", NAMES)
@pytest.mark.parametrize("had_outputs", [True, False], ids=["had outputs", "was empty"])
def test_a_move_that_fails_undoes_the_others(
    failing: str, had_outputs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if had_outputs:
        outputs(tmp_path, "first")
    before = tree_hash(tmp_path)
    rename = Path.rename

    def refuse(self: Path, other: Path) -> Path:
        if self.parent != tmp_path and other.name == failing:
            raise OSError(errno.ENOSPC, "No space left on device", str(self))
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="No space left"), staged(tmp_path) as stage:
        write_all(stage, "second")
    assert tree_hash(tmp_path) == before
    assert names(tmp_path) == (NAMES if had_outputs else [])
    if had_outputs:
        for name in NAMES:
            assert (tmp_path / name).stat().st_mtime == LONG_AGO


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left") as caught, staged(tmp_path / "out"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(tmp_path / "out") in str(caught.value)
    assert names(tmp_path) == []


def test_errors_of_other_files_are_not_renamed(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path / "out"):
        (tmp_path / "input.npz").read_bytes()
    with pytest.raises(OSError, match="no name"), staged(tmp_path / "out"):
        raise OSError("no name")


@pytest.mark.parametrize("below", ["", "out", "out/deeper"])
def test_a_parent_that_is_a_file(below: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(OutputError, match="cannot write to") as caught, staged(file / below):
        pytest.fail("the block must not run")
    assert str(file / below) in str(caught.value)
    assert "hint" in str(caught.value)
    assert file.read_text() == "precious"
    assert names(tmp_path) == ["file"]


@contextmanager
def nobody() -> Iterator[None]:
    """Within it, permissions count even where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that everybody may look into and nobody write to."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    hidden = [path for path in folder.parents if path.stat().st_mode & 0o005 != 0o005]
    above = hidden if os.geteuid() == 0 else []  # only then is the user of `nobody` another one
    modes = [path.stat().st_mode for path in above]
    for path in above:
        path.chmod(0o755)
    yield folder
    for path, mode in zip(above, modes, strict=True):
        path.chmod(mode)
    folder.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other ones there")
@pytest.mark.parametrize("below", ["", "out", "out/deeper"])
def test_no_permission_to_write(below: str, closed: Path) -> None:
    with nobody(), pytest.raises(OutputError, match="Permission denied"), staged(closed / below):
        pytest.fail("the block must not run")
    assert names(closed) == []


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are other ones there")
@pytest.mark.parametrize("below", ["out", "out/deeper"])
def test_no_permission_to_look(below: str, closed: Path) -> None:
    closed.chmod(0)
    with nobody(), pytest.raises(OutputError, match="Permission denied"), staged(closed / below):
        pytest.fail("the block must not run")
    closed.chmod(0o755)
    assert names(closed) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the current folder cannot go")
def test_a_current_folder_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(OutputError, match="cannot write to out"), staged(Path("out")):
        pytest.fail("the block must not run")


def test_a_relative_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with staged(Path("out")) as stage:
        write_all(stage, "first")
    assert stage.written == [Path("out") / name for name in NAMES]
    with pytest.raises(OutputError, match="cannot write to out"), staged(Path("out")) as stage:
        stage.path("no/such/folder").write_text("")
    assert names(tmp_path / "out") == NAMES


def test_leftovers_of_a_killed_process_do_not_disturb(tmp_path: Path) -> None:
    outputs(tmp_path, "first")
    shutil.copytree(tmp_path, tmp_path / ".metal4conv-killed")
    outputs(tmp_path, "second")
    assert names(tmp_path) == [".metal4conv-killed", *NAMES]
    assert (tmp_path / "a.json").read_text() == "a second"


WRITER = """
import sys
from pathlib import Path
from metal4conv.outputs import staged

target, text = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for count in range(60):
    with staged(target) as stage:
        for name in ("a.json", "b.json"):
            stage.path(name).write_text(f"{text} {count}")
        package = stage.path("net.mlpackage")
        package.mkdir()
        for name in ("one", "two", "three"):
            (package / name).write_text(f"{text} {count}")
"""


def test_processes_that_write_the_same_outputs(tmp_path: Path) -> None:
    target = tmp_path / "out"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(target), text],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for text in ("x", "y")
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    assert names(target) == NAMES
    # the outputs of one commit belong together
    files = [target / "a.json", target / "b.json", *(target / "net.mlpackage").iterdir()]
    assert len(files) == 5
    assert len({file.read_text() for file in files}) == 1
    assert files[0].read_text() in ("x 59", "y 59")


def test_write_file(tmp_path: Path) -> None:
    path = tmp_path / "deps" / "net.d"
    write_file(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    os.utime(path, (LONG_AGO, LONG_AGO))
    write_file(path, "größe\n")
    assert path.stat().st_mtime == LONG_AGO
    write_file(path, "other\n")
    assert path.read_text() == "other\n"
    assert names(path.parent) == ["net.d"]


def test_same_content(tmp_path: Path) -> None:
    outputs(tmp_path / "first", "text")
    outputs(tmp_path / "second", "text")
    assert same_content(tmp_path / "first", tmp_path / "second")
    assert not same_content(tmp_path / "first", tmp_path / "third")
    assert not same_content(tmp_path / "first", tmp_path / "first" / "a.json")
    (tmp_path / "second" / "a.json").rename(tmp_path / "second" / "c.json")
    assert not same_content(tmp_path / "first", tmp_path / "second")


ODD_NAMES = ["plain.py", "two words.py", "#1.py", "5$.py", "$(HOME).py", "a:b.py", r"a\b.py"]
ODD_NAMES += [r"a\ b.py", r"a\\ b.py", "größe.py", "a+b~.py"]


def test_depfile_text() -> None:
    targets = [Path("out/my net.json"), Path("out/net#1.mlpackage")]
    inputs = [Path("net.py"), Path("a b.py"), Path("net.py"), Path("5$:.py")]
    assert depfile_text(targets, inputs) == (
        r"out/my\ net.json out/net\#1.mlpackage: net.py a\ b.py 5$$\:.py"
        "\n\nnet.py:\n\na\\ b.py:\n\n5$$\\:.py:\n"
    )


MAKEFILE = """
out.txt:
\t@touch out.txt
include out.d
"""

NINJA = """
rule touch
  command = cp out.d used.d && touch out.txt
  depfile = used.d
build out.txt: touch
"""


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("tool", ["make", "ninja"])
def test_build_tools_read_the_depfile(tool: str, name: str, tmp_path: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "build.ninja").write_text(NINJA)
    (tmp_path / name).write_text("")
    (tmp_path / "other.py").write_text("")
    os.utime(tmp_path / name, (LONG_AGO, LONG_AGO))
    write_file(tmp_path / "out.d", depfile_text([Path("out.txt")], [Path(name), Path("other.py")]))

    first = subprocess.run([tool], cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert not rebuilt(tool, tmp_path)
    later = time.time() + 5
    os.utime(tmp_path / name, (later, later))
    assert rebuilt(tool, tmp_path)


def rebuilt(tool: str, folder: Path) -> bool:
    """Whether a run of the tool makes the output again."""
    before = (folder / "out.txt").stat().st_mtime_ns
    done = subprocess.run([tool], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / "out.txt").stat().st_mtime_ns != before
