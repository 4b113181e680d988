"""Verification on another machine: package and golden vectors over OpenSSH, the report back.

One connection does it all. The remote shell makes a folder, unpacks an archive of known length
from its standard input, runs the command in the folder, and removes the folder. The rest of the
standard input stays open and empty: its end means that this side is gone, by an interrupt, a
timeout or a lost network, and the remote side then ends the command and removes the folder by
itself.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from metal4conv.errors import (
    Metal4ConvError,
    MissingDevice,
    OutputError,
    UnsupportedModel,
    UsageError,
)

REMOTE_COMMAND = "metal4conv"

TIMEOUT = 1800.0
"""Seconds for everything: copying, and a first compilation of every pipeline."""

SSH_OPTIONS = (
    "-T",  # no terminal
    "-a",  # no agent and
    "-x",  # no X11 for the other side
    *("-o", "BatchMode=yes"),  # fail where it would ask for a password
    *("-o", "StrictHostKeyChecking=yes"),
    *("-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15"),
    *("-o", "ServerAliveCountMax=4"),
)
"""ssh takes the first value of an option, so that no configuration weakens these."""

MARK = "metal4conv: the command starts here"
"""What comes before it on standard output is talk of the remote shell's own start-up files."""

# Text for a POSIX shell. The command gets a process group of its own, so that a kill reaches what
# it started: by setsid on Linux, and by job control on macOS, which has no setsid and whose sh is
# bash (dash has job control on terminals only). The second background command waits for the end of
# our standard input. PIPE: with this side gone, not even the shell's "Terminated" can be written.
SCRIPT = """
umask 077
folder=$(mktemp -d "${TMPDIR:-/tmp}/metal4conv.XXXXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
trap 'exit 143' HUP INT TERM PIPE
head -c @SIZE@ | tar -xf - -C "$folder" || exit 1
cd "$folder" || exit 1
exec 3<&0
alone=$(command -v setsid) || set -m
end() { kill -s "$1" -- "-$2" 2>/dev/null || kill -s "$1" "$2" 2>/dev/null; }
printf '%s\\n' @MARK@
$alone sh -c @COMMAND@ </dev/null 3<&- &
run=$!
{ cat <&3; end TERM "$run"; sleep 5; end KILL "$run"; } >/dev/null 2>&1 &
watch=$!
wait "$run"
code=$?
end TERM "$watch"
exit "$code"
"""

LAST_LINES = 12
"""Lines of the other side's standard error that an error shows."""


@dataclass(frozen=True)
class Answer:
    """What came back from the other side; `code` is 255 when ssh itself failed."""

    code: int
    stdout: str
    stderr: str

    @property
    def started(self) -> bool:
        """Whether the command was reached."""
        return MARK in self.stdout


def verify_remotely(
    host: str,
    package: Path,
    golden: Path | None = None,
    options: Sequence[str] = (),
    *,
    on: str = "metal",
    beside: Sequence[Path] = (),
    remote_command: str = REMOTE_COMMAND,
    port: int | None = None,
    identity: Path | None = None,
    ssh_options: Sequence[str] = (),
    timeout: float = TIMEOUT,
) -> dict[str, Any]:  # Any: a JSON document
    """The JSON report of `metal4conv verify PACKAGE --on metal --golden FILE --json` on `host`.

    `host` is what ssh takes: `user@mac`, a name of the user's ssh configuration, or
    `ssh://user@mac:2222`. `options` are further arguments of verify, passed on as they are;
    `beside` are files that belong next to the package, such as its manifest and Metal package.
    `remote_command` is the user's own text for the remote shell (`~/venv/bin/metal4conv`,
    `. ~/venv/bin/activate && metal4conv`); everything else is quoted. `timeout` is in seconds.

    Host keys are checked, whatever the configuration says, and nothing is asked for. The remote
    folder is removed at the end, also after an interrupt. `MissingDevice` when the machine cannot
    be reached, lacks metal4conv or Metal 4, or sends no report; an error of the remote command
    is raised here with its message and exit code.
    """
    files = [package, *([] if golden is None else [golden]), *beside]
    check_host(host)
    check_files(files)
    chosen = [] if golden is None else ["--golden", f"./{golden.name}"]
    arguments = ["verify", f"./{package.name}", "--on", on, *chosen, *options, "--json"]
    command = f"{remote_command} {shlex.join(arguments)}"
    connection = [*SSH_OPTIONS, *ssh_options]
    connection += [] if port is None else ["-p", str(port)]
    connection += [] if identity is None else ["-i", str(identity)]
    with archive_of(files) as (archive, size):
        script = remote_script(command, size)
        answer = run_ssh(host, ["ssh", *connection, "--", host, script], archive, timeout)
    return report_of(answer, host, remote_command)


def check_host(host: str) -> None:
    """`UsageError` for a name that ssh would read as an option, or that is none."""
    if not host or host.startswith("-") or any(c.isspace() or not c.isprintable() for c in host):
        raise UsageError(
            f"{host!r} is no machine", where="--host", hint="name it as ssh does: user@mac"
        )


def check_files(files: Sequence[Path]) -> None:
    """`UsageError` unless each file is there and has a name of its own, without line breaks."""
    for path in files:
        if not path.exists():
            raise UsageError(f"there is no {path}", hint="check the path")
        if path.name in ("", ".."):
            raise UsageError(f"{path} has no name to copy it by", hint="name it from outside")
        if "\n" in path.name or "\0" in path.name:
            raise UsageError(f"{path.name!r} has a line break in its name", hint="rename it")
    names = [path.name for path in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"two files to copy are called {twice[0]}", hint="give one of them another name"
        )


def remote_script(command: str, size: int) -> str:
    """What the remote machine is asked to run: `command` in a folder with the archive's files.

    The account's own shell, which may be any, sees one quoted word.
    """
    script = SCRIPT.strip()
    for name, text in (("SIZE", str(size)), ("MARK", MARK), ("COMMAND", command)):
        script = script.replace(f"@{name}@", shlex.quote(text), 1)
    return f"exec sh -c {shlex.quote(script)}"


@contextmanager
def archive_of(files: Sequence[Path]) -> Iterator[tuple[IO[bytes], int]]:
    """The files and folders as a tar archive, each under its own name, and its length in bytes.

    Links are followed: what they name is not on the other machine. Owners are left out.
    `OutputError` when a file cannot be read, or there is no space for the archive.
    """
    with tempfile.TemporaryFile(prefix="metal4conv-") as handle:
        try:
            with tarfile.open(fileobj=handle, mode="w", dereference=True) as archive:
                for path in files:
                    archive.add(path, arcname=f"./{path.name}", filter=anonymous)
        except OSError as error:
            raise OutputError(
                f"the files to copy cannot be put together: {error}",
                hint=f"check their permissions, and the space in {tempfile.gettempdir()}",
            ) from error
        size = handle.tell()
        handle.seek(0)
        yield handle, size


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """An archive's member that belongs to whoever unpacks it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def run_ssh(host: str, command: Sequence[str], archive: IO[bytes], timeout: float) -> Answer:
    """Runs ssh, feeds it the archive, and waits; ssh is gone when this returns or raises."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr)
        except FileNotFoundError as error:
            raise MissingDevice(
                "ssh is not installed here", where="--host", hint="install OpenSSH's client"
            ) from error
        feeder = threading.Thread(target=feed, args=(archive, process), daemon=True)
        try:
            feeder.start()
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise MissingDevice(
                f"{host} sent no report within {timeout:g} seconds",
                where="--host",
                hint="see what runs there; the run was ended and its folder removed",
            ) from None
        finally:
            end(process)
            feeder.join()
        return Answer(code, text_of(stdout), text_of(stderr))


def feed(archive: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    """Writes the archive to ssh and leaves its input open; an ssh that ended is seen elsewhere."""
    assert process.stdin is not None
    with suppress(BrokenPipeError, ValueError):  # ValueError: closed by `end` meanwhile
        while block := archive.read(1 << 20):
            process.stdin.write(block)
        process.stdin.flush()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends ssh if it still runs; the other side sees the end of its input."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def text_of(handle: IO[bytes]) -> str:
    """All that was written to a file."""
    handle.seek(0)
    return handle.read().decode("utf-8", "replace")


def report_of(answer: Answer, host: str, remote_command: str) -> dict[str, Any]:  # Any: JSON
    """The report in an answer, or the error that it stands for."""
    if not answer.started:
        raise with_stderr(unreached(answer, host), answer, host)
    if answer.code in (0, 1):
        with suppress(ValueError):
            return document_of(answer.stdout)
    raise with_stderr(failed(answer, host, remote_command), answer, host)


def document_of(stdout: str) -> dict[str, Any]:  # Any: a JSON document
    """The JSON object after the mark; `ValueError` when there is none.

    >>> document_of(f"Welcome!\\n{MARK}\\nactivated\\n" + '{"passed": true}')
    {'passed': True}
    """
    text = stdout.split(MARK, 1)[1]
    start = 0 if text.startswith("{") else text.find("\n{") + 1
    document = json.loads(text[start:])
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    return document


def unreached(answer: Answer, host: str) -> MissingDevice:
    """Why the command was not started, from what ssh said."""
    said = answer.stderr
    if "REMOTE HOST IDENTIFICATION HAS CHANGED" in said:
        message = f"the key of {host} is not the one that is known"
        hint = "find out why; then remove the old key with ssh-keygen -R"
    elif "Host key verification failed" in said or "host key is known" in said:
        message = f"the key of {host} is not known here"
        hint = f"connect once by hand and compare its fingerprint: ssh {shlex.quote(host)}"
    elif "Permission denied" in said:
        message = f"{host} does not let us in with a key"
        hint = f"put a key there (ssh-copy-id {shlex.quote(host)}); passwords are not asked for"
    elif answer.code == 255:
        message = f"{host} cannot be reached"
        hint = f"check its name, and that it is awake: ssh {shlex.quote(host)}"
    else:
        message = f"the files could not be copied to {host} (exit code {answer.code})"
        hint = "it needs sh, mktemp, head, tar, and space in its temporary folder"
    return MissingDevice(message, where="--host", hint=hint)


def failed(answer: Answer, host: str, remote_command: str) -> Metal4ConvError:
    """What the remote command's exit code stands for, with its own message."""
    if answer.code in (126, 127):
        return MissingDevice(
            f'there is no command "{remote_command}" on {host}',
            where="--remote-command",
            hint="install metal4conv there, or say where it is: "
            "--remote-command '~/venv/bin/metal4conv'",
        )
    if answer.code in (0, 1):
        return MissingDevice(
            f"{host} sent no report (exit code {answer.code})",
            where="--remote-command",
            hint="it must run metal4conv and print nothing on standard output after it",
        )
    kinds: dict[int, type[Metal4ConvError]] = {2: UsageError, 3: UnsupportedModel}
    kind = kinds.get(answer.code, MissingDevice)
    hint = f"is metal4conv on {host} of the same version?" if answer.code in (2, 70) else None
    return kind(f"{host} ended with exit code {answer.code}", where="--host", hint=hint)


def with_stderr(error: Metal4ConvError, answer: Answer, host: str) -> Metal4ConvError:
    """The error, with the last lines that the other side or ssh printed."""
    for line in answer.stderr.splitlines()[-LAST_LINES:]:
        if line.strip():
            error.add_note(f"{host}: {line.rstrip()}")
    return error
