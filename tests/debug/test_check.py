"""The user's command as a judge, also one that misbehaves."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from metal4conv.debug.check import Answer, CommandCheck, run_command
from metal4conv.errors import UsageError


def gone(pid: int) -> bool:
    """Whether a process ended; a zombie that nobody waits for counts as ended."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 5
    while not gone(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert gone(pid)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("true", Answer("good", "exit status 0")),
        ("false", Answer("bad", "exit status 1")),
        ("sh -c 'exit 125'", Answer("skip", "exit status 125")),
        ("sh -c 'exit 255'", Answer("bad", "exit status 255")),
        ("sh -c 'kill -SEGV $$'", Answer("bad", "killed by SIGSEGV")),
    ],
)
def test_an_exit_status_is_an_answer(command: str, answer: Answer) -> None:
    assert CommandCheck(command).ask(Path("net.mlpackage")) == answer


@pytest.mark.parametrize("status", [126, 127])
def test_what_a_shell_cannot_run_is_no_answer(status: int) -> None:
    check = CommandCheck(f"sh -c 'exit {status}'")
    with pytest.raises(UsageError, match=f"ended with exit status {status}"):
        check.ask(Path("net.mlpackage"))


def test_a_command_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"no_such_command was not found") as caught:
        CommandCheck("no_such_command {package}")
    assert "no shell runs it" in str(caught.value)


def test_a_command_that_is_not_executable(tmp_path: Path) -> None:
    script = tmp_path / "my check.sh"
    script.write_text("exit 0")
    with pytest.raises(UsageError, match="is not executable") as caught:
        CommandCheck(shlex.quote(str(script)))
    assert f"chmod +x '{script}'" in str(caught.value)


def test_a_script_without_a_first_line(tmp_path: Path) -> None:
    script = tmp_path / "check"
    script.write_text("exit 0")
    script.chmod(0o755)
    with pytest.raises(UsageError, match="cannot be run: Exec format error"):
        CommandCheck(str(script)).ask(Path("net.mlpackage"))


@pytest.mark.parametrize(
    ("command", "what"), [("", "is empty"), ("sh -c 'exit 0", "No closing quotation")]
)
def test_a_command_that_cannot_be_read(command: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        CommandCheck(command)


def test_names_with_spaces_and_quotes_arrive_whole(tmp_path: Path) -> None:
    package = tmp_path / 'it\'s a "net" $HOME {x}.mlpackage'
    script = (
        "import os, sys; names = sys.argv[1:]; "
        "keys = ('PACKAGE', 'INPUTS', 'OUTPUTS'); "
        "assert names == [os.environ['METAL4CONV_' + key] for key in keys], names; "
        "print(names)"
    )
    log = tmp_path / "log"
    command = f"{sys.executable} -c {shlex.quote(script)} {{package}} {{inputs}} {{outputs}}"
    assert CommandCheck(command, log=log).ask(package).verdict == "good"
    stem = str(package).removesuffix(".mlpackage")
    expected = [str(package), f"{stem}.inputs.npz", f"{stem}.outputs.npz"]
    assert log.read_text() == f"{expected}\n"


def test_without_placeholders_package_and_inputs_are_the_last_words() -> None:
    words = CommandCheck("sh check.sh -x").words(Path("/a/net.mlpackage"))
    assert words == ["sh", "check.sh", "-x", "/a/net.mlpackage", "/a/net.inputs.npz"]


def test_an_endless_output_is_read_and_forgotten() -> None:
    status, output = run_command(["sh", "-c", "yes line | head -c 200000000; echo end"], {}, None)
    assert status == 0
    assert output.endswith(b"line\nend\n")
    assert len(output) <= 2**16


def test_a_command_that_takes_too_long_ends_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"sleep 100 & echo $! > {shlex.quote(str(pid))}; wait"
    start = time.monotonic()
    answer = CommandCheck(f"sh -c {shlex.quote(script)}", timeout=0.5).ask(Path("net.mlpackage"))
    assert answer == Answer("skip", "took longer than 0.5 s")
    assert time.monotonic() - start < 10
    wait_until_gone(int(pid.read_text()))


def test_a_command_that_ignores_being_asked_to_end_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ > {shlex.quote(str(pid))}; while :; do sleep 0.1; done"
    assert run_command(["sh", "-c", script], {}, 0.5)[0] is None
    wait_until_gone(int(pid.read_text()))


def test_what_stays_in_the_background_does_not_hold_the_search_up(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    start = time.monotonic()
    script = f"sleep 100 & echo $! > {shlex.quote(str(pid))}; exit 0"
    assert run_command(["sh", "-c", script], dict(os.environ), None)[0] == 0
    assert time.monotonic() - start < 10
    wait_until_gone(int(pid.read_text()))
