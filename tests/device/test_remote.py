"""Verification over OpenSSH, against an sshd of the test's own on the loopback address."""

from __future__ import annotations

import getpass
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from metal4conv.device import remote
from metal4conv.device.remote import MARK, archive_of, remote_script, verify_remotely
from metal4conv.errors import MissingDevice, UnsupportedModel, UsageError
from metal4conv.verify.golden import GoldenCase, GoldenOrigin, write_golden
from tests.layout.packages import PackageBuilder

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
PRIVILEGE_SEPARATION = Path("/run/sshd")

needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None or sys.platform == "win32",
    reason="OpenSSH's server is not installed (Debian: openssh-server)",
)

INSTALLED = f"{shlex.quote(sys.executable)} -m metal4conv"


@dataclass(frozen=True)
class Machine:
    """The loopback address as another machine; `folders` is where it makes temporary ones."""

    host: str
    port: int
    config: Path
    folders: Path
    home: Path

    def verify(self, package: Path, golden: Path | None = None, *options: str, **given):
        """`verify_remotely` there, on the reference executor."""
        settings = {
            "on": "reference",
            "remote_command": INSTALLED,
            "port": self.port,
            "ssh_options": ["-F", str(self.config)],
            "timeout": 120,
        }
        return verify_remotely(self.host, package, golden, options, **{**settings, **given})

    def script(self, text: str) -> str:
        """A remote command that runs this shell script, whatever verify's arguments are."""
        path = self.home / "remote.sh"
        path.write_text(text)
        return f"sh {shlex.quote(str(path))}"

    def is_clean(self) -> bool:
        """Whether no folder is left there."""
        return not list(self.folders.iterdir())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A running sshd with keys, configuration and temporary folder of its own."""
    home = tmp_path_factory.mktemp("sshd")
    folders = home / "remote tmp"
    folders.mkdir()
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        subprocess.run(command, check=True)
    shutil.copy(home / "user_key.pub", home / "authorized_keys")
    port = free_port()
    public = (home / "host_key.pub").read_text().split()[:2]
    (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(public)}\n")
    config = home / "client_config"
    config.write_text(
        "StrictHostKeyChecking no\n"  # which metal4conv must override
        f"UserKnownHostsFile {home / 'known_hosts'}\n"
        "GlobalKnownHostsFile /dev/null\n"
        f"IdentityFile {home / 'user_key'}\n"
        "IdentitiesOnly yes\n"
    )
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home / 'host_key'}\n"
        f"AuthorizedKeysFile {home / 'authorized_keys'}\nPidFile none\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f'UsePAM no\nStrictModes no\nPermitRootLogin yes\nSetEnv "TMPDIR={folders}"\n'
    )
    made = os.getuid() == 0 and not PRIVILEGE_SEPARATION.exists()
    if made:
        PRIVILEGE_SEPARATION.mkdir(mode=0o755)
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [str(SSHD), "-D", "-e", "-f", str(home / "sshd_config")], stderr=log
        )
    try:
        wait_for_port(port, server, home / "log")
        yield Machine(f"{getpass.getuser()}@127.0.0.1", port, config, folders, home)
    finally:
        server.terminate()
        server.wait()
        if made:
            PRIVILEGE_SEPARATION.rmdir()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    """Returns when sshd answers; fails with what it printed when it ends instead."""
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(f"sshd does not answer: {log.read_text()}")


def eventually(claim, seconds: float = 20) -> bool:
    """Whether a claim comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if claim():
            return True
        time.sleep(0.05)
    return bool(claim())


def relu_package(folder: Path, name: str, *, wrong: bool = False) -> tuple[Path, Path]:
    """`y = relu(x)` and golden vectors for it, which fit unless `wrong`."""
    build = PackageBuilder()
    build.input("x", "float32", (1, 4))
    build.operation("relu", "y", "float32", (1, 4), {"x": ["x"]})
    build.output("y", "float32")
    package = folder / f"{name}.mlpackage"
    build.write(package)
    x = np.array([[-1, 0, 1, 2]], np.float32)
    y = np.maximum(x, 0) + (1 if wrong else 0)
    golden = folder / f"{name}.golden.safetensors"
    write_golden(golden, [GoldenCase({"x": x}, {}, {"y": y})], GoldenOrigin(name))
    return package, golden


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A package and golden vectors that only have to be copied."""
    package = tmp_path / "net.mlpackage"
    package.mkdir()
    (package / "Manifest.json").write_text("{}")
    golden = tmp_path / "net.golden.safetensors"
    golden.write_bytes(bytes(300_000))
    return package, golden


@needs_sshd
@pytest.mark.parametrize("name", ["net", "my net", 'it\'s $(touch owned) `id` "5" \\ ; & *', "-n"])
def test_agreement_comes_back(machine: Machine, tmp_path: Path, name: str) -> None:
    package, golden = relu_package(tmp_path, name)
    report = machine.verify(package, golden)
    assert (report["command"], report["passed"], report["verdict"]) == ("verify", True, "agrees")
    assert machine.is_clean()
    assert not (machine.home / "owned").exists()


@needs_sshd
def test_difference_comes_back(machine: Machine, tmp_path: Path) -> None:
    report = machine.verify(*relu_package(tmp_path, "net", wrong=True))
    assert (report["passed"], report["verdict"]) == (False, "differs")
    assert {finding["code"] for finding in report["findings"]} >= {"out-of-tolerance"}
    assert machine.is_clean()


@needs_sshd
def test_command_verifies_on_the_other_machine_s_emulator(
    machine: Machine, tmp_path: Path, monkeypatch, metal4conv
) -> None:
    wrapper = tmp_path / "bin" / "ssh"  # the command has no option for a configuration of ssh's
    wrapper.parent.mkdir()
    ssh = shlex.quote(str(shutil.which("ssh")))
    wrapper.write_text(f'#!/bin/sh\nexec {ssh} -F {shlex.quote(str(machine.config))} "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}{os.pathsep}{os.environ['PATH']}")
    package, _ = relu_package(tmp_path, "net")
    host = f"ssh://{machine.host}:{machine.port}"
    there = ["--host", host, "--remote-command", INSTALLED, "--on"]
    done = metal4conv("verify", package, *there, "emulator", "--backing", "both", "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "agrees"
    assert machine.is_clean()
    if sys.platform == "darwin":
        return  # the rest is for machines without Metal
    failed = metal4conv("verify", package, *there, "metal")
    assert failed.code == 4, failed.stdout
    assert "no Metal 4 here" in failed.stderr
    skipped = metal4conv("verify", package, *there, "metal", "--skip-if-missing")
    assert skipped.code == 0
    assert "skipped" in skipped.stdout
    assert machine.is_clean()


@needs_sshd
def test_error_of_the_remote_command_is_raised_here(machine: Machine, files) -> None:
    with pytest.raises(UnsupportedModel, match="ended with exit code 3") as caught:
        machine.verify(*files)
    assert "error:" in str(caught.value)
    assert "net.mlpackage" in str(caught.value)
    with pytest.raises(UsageError, match="exit code 2") as usage:
        machine.verify(*files, "--no-such-option")
    assert "--no-such-option" in str(usage.value)
    assert "same version" in str(usage.value)
    assert machine.is_clean()


@needs_sshd
def test_files_arrive_and_arguments_stay_words(machine: Machine, files, tmp_path: Path) -> None:
    manifest = tmp_path / "net.layout.json"
    manifest.write_text("{}")
    link = tmp_path / "net.mtlpackage"
    link.symlink_to(files[0])
    command = machine.script(
        """shift 2
        for word; do printf '%s\\n' "$word" >&2; done
        ls >&2
        wc -c <net.golden.safetensors >&2
        cat net.mtlpackage/Manifest.json >&2
        exit 4"""
    )
    with pytest.raises(MissingDevice) as caught:
        machine.verify(
            *files, "--atol", "$(id) 'x'", beside=[manifest, link], remote_command=command
        )
    assert [note.removeprefix(f"{machine.host}: ") for note in caught.value.__notes__] == [
        *("--on", "reference", "--golden", "./net.golden.safetensors", "--atol", "$(id) 'x'"),
        *("--json", "net.golden.safetensors", "net.layout.json", "net.mlpackage"),
        *("net.mtlpackage", "300000", "{}"),
    ][-remote.LAST_LINES :]
    assert machine.is_clean()


@needs_sshd
def test_unknown_host_key_is_refused_whatever_the_configuration_says(
    machine: Machine, files, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    text = machine.config.read_text()
    config.write_text(text.replace(f"{machine.home}/known_hosts", f"{tmp_path}/none"))
    with pytest.raises(MissingDevice, match="is not known here") as caught:
        machine.verify(*files, ssh_options=["-F", str(config)])
    assert "connect once by hand" in str(caught.value)
    assert caught.value.exit_code == 4
    assert not (tmp_path / "none").exists()


@needs_sshd
def test_changed_host_key_is_refused(machine: Machine, files, tmp_path: Path) -> None:
    other = (machine.home / "user_key.pub").read_text().split()[:2]
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{machine.port} {' '.join(other)}\n")
    config = tmp_path / "config"
    text = machine.config.read_text()
    config.write_text(text.replace(f"{machine.home}/known_hosts", str(known)))
    with pytest.raises(MissingDevice, match="is not the one that is known"):
        machine.verify(*files, ssh_options=["-F", str(config)])


@needs_sshd
def test_refused_key(machine: Machine, files, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True
    )
    config = tmp_path / "config"
    text = machine.config.read_text()
    config.write_text(text.replace(f"{machine.home}/user_key", f"{tmp_path}/key"))
    with pytest.raises(MissingDevice, match="does not let us in") as caught:
        machine.verify(*files, ssh_options=["-F", str(config)])
    assert "Permission denied" in str(caught.value)


@needs_sshd
def test_identity_is_offered(machine: Machine, files, tmp_path: Path) -> None:
    config = tmp_path / "config"
    lines = machine.config.read_text().splitlines()
    config.write_text("\n".join(line for line in lines if "Identit" not in line) + "\n")
    report = machine.verify(
        *files,
        ssh_options=["-F", str(config)],
        identity=machine.home / "user_key",
        remote_command=machine.script("echo '{\"passed\": true}'"),
    )
    assert report == {"passed": True}


@needs_sshd
def test_wrong_port(machine: Machine, files) -> None:
    with pytest.raises(MissingDevice, match="cannot be reached") as caught:
        machine.verify(*files, port=free_port())
    assert "refused" in str(caught.value)


@needs_sshd
def test_missing_remote_command(machine: Machine, files) -> None:
    with pytest.raises(MissingDevice, match='no command "no-such-metal4conv"') as caught:
        machine.verify(*files, remote_command="no-such-metal4conv")
    assert "--remote-command" in str(caught.value)
    assert machine.is_clean()


@needs_sshd
@pytest.mark.parametrize("text", ["echo hello", "echo '[1]'", "exit 1", "echo '{\"passed\": tr'"])
def test_no_report(machine: Machine, files, text: str) -> None:
    with pytest.raises(MissingDevice, match="sent no report"):
        machine.verify(*files, remote_command=machine.script(text))
    assert machine.is_clean()


@needs_sshd
@pytest.mark.parametrize("command", ["echo activated; sh {script}", "true && sh {script}"])
def test_remote_command_is_shell_text(machine: Machine, files, command: str) -> None:
    script = machine.script("printf 'warming up\\n{\\n \"passed\": true}\\n'").removeprefix("sh ")
    report = machine.verify(*files, remote_command=command.format(script=script))
    assert report == {"passed": True}


@needs_sshd
def test_unbalanced_remote_command_is_an_error_and_leaves_nothing(machine: Machine, files) -> None:
    with pytest.raises(UsageError, match="exit code 2"):
        machine.verify(*files, remote_command="it's metal4conv")
    assert machine.is_clean()


def process_of(file: Path) -> int:
    """The process that wrote its number to `file`."""
    assert eventually(lambda: file.exists() and file.read_text().strip())
    return int(file.read_text())


def is_running(number: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@needs_sshd
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_timeout_ends_the_remote_command_and_removes_its_folder(machine: Machine, files) -> None:
    running = machine.home / "timeout.pid"
    command = machine.script(f"echo $$ >{shlex.quote(str(running))}; exec sleep 300")
    with pytest.raises(MissingDevice, match="no report within 2 seconds"):
        machine.verify(*files, remote_command=command, timeout=2)
    number = process_of(running)
    assert eventually(machine.is_clean)
    assert eventually(lambda: not is_running(number))


@needs_sshd
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupt_ends_the_remote_command_and_removes_its_folder(
    machine: Machine, files, number: signal.Signals
) -> None:
    running = machine.home / f"{number.name}.pid"
    command = machine.script(f"echo $$ >{shlex.quote(str(running))}; exec sleep 300")
    program = (
        "import signal\nfrom pathlib import Path\nfrom metal4conv.cli import terminate\n"
        "signal.signal(signal.SIGTERM, terminate)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from metal4conv.device.remote import verify_remotely\n"
        f"verify_remotely({machine.host!r}, Path({str(files[0])!r}), Path({str(files[1])!r}),\n"
        f"    port={machine.port}, ssh_options=['-F', {str(machine.config)!r}],\n"
        f"    remote_command={command!r})\n"
    )
    local = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    started = process_of(running)
    assert not machine.is_clean()
    if number == signal.SIGINT:
        os.killpg(local.pid, number)  # as a terminal does
    else:
        local.send_signal(number)
    _, said = local.communicate(timeout=30)
    assert local.returncode in (1, -number, 128 + number), said
    assert eventually(machine.is_clean)
    assert eventually(lambda: not is_running(started))


@pytest.mark.parametrize("host", ["-oProxyCommand=touch owned", "-v", "", "two words", "a\nb"])
def test_host_that_is_none_is_refused(files, host: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")  # nothing may be started
    with pytest.raises(UsageError, match="is no machine"):
        verify_remotely(host, *files)
    assert not (tmp_path / "owned").exists()


def test_missing_ssh(files, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDevice, match="ssh is not installed"):
        verify_remotely("mac", *files)


def test_files_are_checked_first(files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no"):
        verify_remotely("mac", tmp_path / "none.mlpackage")
    broken = tmp_path / "two\nlines.mlpackage"
    broken.mkdir()
    with pytest.raises(UsageError, match="line break"):
        verify_remotely("mac", broken)
    with pytest.raises(UsageError, match="no name"):
        verify_remotely("mac", Path("/"))
    (tmp_path / "other").mkdir()
    same = tmp_path / "other" / files[0].name
    same.mkdir()
    with pytest.raises(UsageError, match="two files"):
        verify_remotely("mac", files[0], beside=[same])


def test_archive_follows_links_and_names_no_owner(files, tmp_path: Path) -> None:
    link = tmp_path / "net.mtlpackage"
    link.symlink_to(files[0])
    with archive_of([link, files[1]]) as (handle, size), tarfile.open(fileobj=handle) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [
            *("./net.mtlpackage", "./net.mtlpackage/Manifest.json", "./net.golden.safetensors")
        ]
        assert {(member.uid, member.gid, member.uname) for member in members} == {(0, 0, "")}
        assert members[0].isdir()
        assert size == handle.seek(0, os.SEEK_END)


def test_script_is_one_word_for_the_account_s_shell() -> None:
    command = "metal4conv verify './it'\"'\"'s @SIZE@.mlpackage'"
    first, *rest = shlex.split(remote_script(command, 512))
    assert [first, *rest[:2]] == ["exec", "sh", "-c"]
    (script,) = rest[2:]
    assert "head -c 512 " in script
    (line,) = [line for line in script.splitlines() if line.startswith("$alone ")]
    assert shlex.split(line)[3] == command
    assert f"printf '%s\\n' {shlex.quote(MARK)}" in script
    assert subprocess.run(["sh", "-n", "-c", script]).returncode == 0


def test_report_is_json() -> None:
    answer = remote.Answer(1, f"motd\n{MARK}\n{json.dumps({'passed': False})}\n", "")
    assert remote.report_of(answer, "mac", "metal4conv") == {"passed": False}
