"""The workflows for GitHub: they parse, ask for little, and call what exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from metal4conv.cli import cli

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "tests" / "examples"
OWN = ROOT / ".github" / "workflows" / "ci.yml"
EXAMPLE = EXAMPLES / "github-workflow.yml"
MAKEFILES = {OWN: ROOT / "Makefile", EXAMPLE: EXAMPLES / "Makefile"}

MAJOR_VERSION = re.compile(r"actions/[a-z-]+@v\d+")

both = pytest.mark.parametrize("path", [OWN, EXAMPLE], ids=lambda path: path.name)


def workflow(path: Path) -> dict[Any, Any]:
    """A workflow file; YAML reads its key `on` as True."""
    loaded = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def steps(path: Path) -> list[dict[str, Any]]:
    """The steps of all jobs."""
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def commands(path: Path) -> Iterator[list[str]]:
    """The words of each command that a workflow runs, without what its shell would do."""
    for step in steps(path):
        text = step.get("run", "").replace("\\\n", " ")
        for line in text.splitlines():
            if words := shlex.split(line, comments=True):
                yield words


def check_command(words: list[str]) -> None:
    """Parses a command line of metal4conv as the program itself does, without running it."""
    name, *arguments = words
    command = cli.get_command(click.Context(cli), name)
    assert command is not None, f"there is no command {name}"
    command.make_context(name, arguments)


def make_targets(makefile: Path) -> set[str]:
    """What a Makefile can make by name."""
    return set(re.findall(r"^([\w-]+):", makefile.read_text("utf-8"), re.MULTILINE))


@both
def test_workflow_may_read_the_repository_and_nothing_else(path: Path) -> None:
    loaded = workflow(path)
    assert loaded["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in loaded["jobs"].values())
    assert True in loaded, "it is triggered by something"


@both
def test_actions_are_github_s_own_with_a_major_version(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    assert [name for name in used if not MAJOR_VERSION.fullmatch(name)] == []


@both
def test_each_step_runs_something(path: Path) -> None:
    assert all(("uses" in step) != ("run" in step) for step in steps(path))
    names = set(workflow(path)["jobs"])
    for job in workflow(path)["jobs"].values():
        assert job["runs-on"] in ("ubuntu-latest", "ubuntu-24.04", "macos-26")
        assert {job["needs"]} <= names if "needs" in job else True


@both
def test_commands_exist(path: Path) -> None:
    found = [words for words in commands(path) if Path(words[0]).name == "metal4conv"]
    assert found
    for words in found:
        check_command(words[1:])


@both
def test_make_targets_exist(path: Path) -> None:
    found = [words for words in commands(path) if words[0] == "make"]
    assert found
    for words in found:
        targets = {word for word in words[1:] if "=" not in word}
        assert targets <= make_targets(MAKEFILES[path])


def test_files_of_our_own_workflow_exist() -> None:
    words = {word.partition(":")[0] for line in commands(OWN) for word in line}
    named = {word for word in words if word.startswith(("sample_models/", "tests/"))}
    assert named
    assert [word for word in named if not (ROOT / word).exists()] == []


def test_example_continues_what_its_makefile_builds() -> None:
    makefile = (EXAMPLES / "Makefile").read_text("utf-8")
    used = {word for line in commands(EXAMPLE) for word in line if word.startswith("build/")}
    assert {path.replace("build/", "$(OUT)/") for path in used} == {"$(OUT)/denoise.mlpackage"}
    assert "$(OUT)/denoise.mlpackage" in makefile


@pytest.mark.parametrize("line", ["verify x --no-such-option", "verify x --on moon", "verfy x"])
def test_wrong_commands_are_found(line: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        check_command(line.split())


def test_secrets_reach_no_command_line() -> None:
    for path in (OWN, EXAMPLE):
        assert [step for step in steps(path) if "${{" in step.get("run", "")] == []
