"""`make onnx-conformance`: onnx's backend cases through ONNX → MIL → package → executor.

--only TEXT     cases whose name holds the text
--one-in N      one case in N
--jobs N        processes (default: the processors)
--failed        only what did not pass in the last run
--verbose       the reason of every case that does not pass

Results are kept in build/onnx-conformance.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.onnx_conformance.cases import Case, Outcome, all_cases, run_case
from tests.onnx_conformance.gaps import reason_of

RESULTS = Path("build/onnx-conformance.json")
LEAST_PASSED = 1450
LEAST_SHARE = 0.95
"""Of the node cases, and of those that use no type that MIL lacks."""


def run_named(name: str) -> tuple[str, Outcome]:
    """The outcome of a case; an exception that is no refusal is a failure."""
    warnings.simplefilter("ignore")
    folder = Path(tempfile.mkdtemp())
    try:
        return name, run_case(all_cases()[name], folder)
    except Exception as error:  # any failure of ours is a result of the case
        place = traceback.extract_tb(error.__traceback__)[-1]
        return name, Outcome("failed", f"{type(error).__name__}: {error} ({place.name})"[:400])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def prepare() -> None:
    """What each process needs, once."""
    import torch

    torch.set_num_threads(1)


def run_all(cases: list[Case], jobs: int) -> dict[str, Outcome]:
    """The outcomes by name."""
    names = [case.name for case in cases]
    if jobs == 1:
        return dict(map(run_named, names))
    # nothing that starts threads is loaded yet, and the children have the cases for free
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, context, prepare) as pool:
        return dict(pool.map(run_named, names, chunksize=8))


def table(cases: list[Case], outcomes: dict[str, Outcome]) -> str:
    """Passed, failed and refused, by operator, where not all pass."""
    counts: dict[str, Counter[str]] = {}
    for case in cases:
        counts.setdefault(case.operator, Counter())[outcomes[case.name].outcome] += 1
    lines = [f"{'operator':52} {'passed':>7} {'failed':>7} {'refused':>8}"]
    for operator, found in sorted(counts.items()):
        if found["failed"] or found["refused"]:
            lines.append(
                f"{operator:52} {found['passed']:7} {found['failed']:7} {found['refused']:8}"
            )
    return "\n".join(lines)


def kept() -> dict[str, list[str]]:
    """Outcome and reason of each case that was run, from the last runs."""
    return json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}


def keep(outcomes: dict[str, Outcome]) -> None:
    """Writes outcomes beside those of earlier runs."""
    RESULTS.parent.mkdir(exist_ok=True)
    rows = {name: [found.outcome, found.why] for name, found in outcomes.items()}
    RESULTS.write_text(json.dumps(dict(sorted({**kept(), **rows}.items())), indent=0), "utf-8")


def summary(kind: str, cases: list[Case], outcomes: dict[str, Outcome]) -> str:
    """One line of counts."""
    found = Counter(outcomes[case.name].outcome for case in cases)
    return (
        f"{kind}: {found['passed']} of {len(cases)} pass "
        f"({found['failed']} fail, {found['refused']} are refused)"
    )


def surprises(cases: list[Case], outcomes: dict[str, Outcome]) -> list[str]:
    """Cases that do not pass without a reason in the table, and gaps that pass."""
    lines = []
    for case in cases:
        outcome = outcomes[case.name]
        reason = reason_of(case)
        if outcome.outcome != "passed" and reason is None:
            lines.append(f"{outcome.outcome}: {case.name}\n    {outcome.why}")
        if outcome.outcome == "passed" and reason is not None:
            lines.append(f"passes, though it is listed as a gap: {case.name}")
    return lines


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.onnx_conformance")
    parser.add_argument("--only", default="")
    parser.add_argument("--one-in", type=int, default=int(os.environ.get("ONNX_ONE_IN", "1")))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--failed", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    cases = [case for case in all_cases().values() if options.only in case.name]
    cases = cases[:: options.one_in]
    if options.failed:
        last = kept()
        cases = [case for case in cases if last.get(case.name, [""])[0] != "passed"]
    outcomes = run_all(cases, min(options.jobs, max(len(cases) // 16, 1)))
    keep(outcomes)
    print(table(cases, outcomes))
    if options.verbose:
        for case in cases:
            if outcomes[case.name].outcome != "passed":
                print(f"{outcomes[case.name].outcome}: {case.name}: {outcomes[case.name].why}")
    for kind in dict.fromkeys(case.kind for case in cases):
        print(summary(kind, [case for case in cases if case.kind == kind], outcomes))
    nodes = [case for case in cases if case.kind == "node"]
    held = [case for case in nodes if not case.uses_missing_type]
    passed = sum(outcomes[case.name].outcome == "passed" for case in nodes)
    passed_held = sum(outcomes[case.name].outcome == "passed" for case in held)
    if held:
        print(
            f"of the node cases without types that MIL lacks: {passed_held} of {len(held)} pass "
            f"({passed_held / len(held):.1%}, at least {LEAST_SHARE:.0%} must)"
        )
    found = surprises(cases, outcomes)
    for line in found:
        print(line)
    print(f"{len(found)} surprises")
    is_full = not options.only and not options.failed and options.one_in == 1
    reached = passed >= LEAST_PASSED and passed_held >= LEAST_SHARE * len(held)
    return 0 if not found and (reached or not is_full) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
