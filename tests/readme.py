"""Writes the generated parts of README.md, or checks that they are up to date (`--check`).

They stand between `<!-- name -->` and `<!-- end name -->`: help pages, exit codes, operations.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from click.testing import CliRunner

from metal4conv.cli import COMMANDS, cli
from metal4conv.errors import EXIT_CODES

README = Path(__file__).parents[1] / "README.md"
EXAMPLES = Path(__file__).parent / "examples"


def help_pages() -> str:
    """The help of the program and of each command."""
    pages = [help_of([]), *(help_of([name]) for name in COMMANDS)]
    return "\n".join(f"```\n{page}\n```\n" for page in pages).rstrip()


def help_of(arguments: list[str]) -> str:
    runner = CliRunner()
    done = runner.invoke(cli, [*arguments, "--help"], prog_name="metal4conv", terminal_width=96)
    return done.output.rstrip()


def exit_codes() -> str:
    """The table of exit codes."""
    rows = [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])


def operations() -> str:
    """The MIL operations that the executor runs, by family."""
    from metal4conv.execute.families import load_all
    from metal4conv.execute.table import MIL_OPS

    load_all()

    families: dict[str, set[str]] = {}
    for name in MIL_OPS:
        for function in MIL_OPS.handlers[name].values():
            family = family_of(name, function)
            families.setdefault(family, set()).add(name)
    count = len(set(MIL_OPS))
    rows = [
        f"| {family} | {', '.join(sorted(names))} |" for family, names in sorted(families.items())
    ]
    return "\n".join([f"{count} operations:", "", "| family | operations |", "|---|---|", *rows])


def family_of(name: str, function: object) -> str:
    """The file that registers an operation; what is torch's or Python's own is elementwise."""
    module = getattr(function, "__module__", "") or ""
    found = module.rpartition("metal4conv.execute.")[2]
    return found.replace("_", " ") if module.startswith("metal4conv.execute.") else "elementwise"


def onnx_operators() -> str:
    """The ONNX operators, by what becomes of onnx's own cases of them."""
    from metal4conv.frontends.onnx import operators
    from metal4conv.frontends.onnx.table import ONNX_OPS
    from tests.onnx_conformance.cases import all_cases
    from tests.onnx_conformance.gaps import reason_of

    operators.load()
    passed: dict[str, list[bool]] = {}
    for case in all_cases().values():
        if case.kind == "node":
            passed.setdefault(case.operator, []).append(reason_of(case) is None)
    rows: dict[str, list[str]] = {
        "all cases pass": [],
        "some cases pass": [],
        "no case passes": [],
    }
    for name, outcomes in sorted(passed.items()):
        if all(outcomes):
            rows["all cases pass"].append(name)
        elif any(outcomes):
            rows["some cases pass"].append(f"{name} ({sum(outcomes)} of {len(outcomes)})")
        else:
            rows["no case passes"].append(name)
    plain = {name for name in ONNX_OPS if "." not in name}
    rows["converted, without a case of their own"] = sorted(plain - set(passed))
    for domain in ("com.microsoft", "ai.onnx.ml"):
        names = [name for name in ONNX_OPS if name.startswith(f"{domain}.")]
        rows[f"of {domain}"] = [name.rpartition(".")[2] for name in names]
    cases = [outcome for outcomes in passed.values() for outcome in outcomes]
    return "\n".join(
        [
            f"{sum(cases)} of the {len(cases)} node cases of onnx pass:",
            "",
            "| | operators |",
            "|---|---|",
            *(f"| {title} | {', '.join(names)} |" for title, names in rows.items() if names),
        ]
    )


def makefile() -> str:
    """The example Makefile, which a test runs."""
    return f"```make\n{(EXAMPLES / 'Makefile').read_text('utf-8')}```"


def ninja() -> str:
    """Its ninja twin."""
    return f"```ninja\n{(EXAMPLES / 'build.ninja').read_text('utf-8')}```"


def workflow() -> str:
    """The example workflow, whose commands a test looks up."""
    return f"```yaml\n{(EXAMPLES / 'github-workflow.yml').read_text('utf-8')}```"


def emulator_rules() -> str:
    """The rules of Metal that the emulator enforces."""
    from metal4conv.device.emulator.rules import rules_table

    rows = [
        f"| `{name}` | {rule} | {known} | {source} |" for name, rule, known, source in rules_table()
    ]
    return "\n".join(["| rule | | known by | source |", "|---|---|---|---|", *rows])


PARTS = {
    "makefile": makefile,
    "ninja": ninja,
    "workflow": workflow,
    "emulator rules": emulator_rules,
    "help": help_pages,
    "exit codes": exit_codes,
    "operations": operations,
    "onnx operators": onnx_operators,
}


def generated(text: str) -> str:
    """The README with its generated parts as the code has them now."""
    for name, make in PARTS.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"README.md has no part <!-- {name} -->")
        body = make()
        text = pattern.sub(lambda match: f"{match[1]}{body}\n{match[2]}", text)  # noqa: B023
    return text


def main(arguments: list[str]) -> int:
    text = README.read_text("utf-8")
    wanted = generated(text)
    if text == wanted:
        return 0
    if "--check" in arguments:
        print("README.md is out of date; run: make docs", file=sys.stderr)
        return 1
    README.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
