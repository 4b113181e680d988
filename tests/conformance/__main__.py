"""`make conformance`: coremltools' own tests with the executor answering, and a table of results.

    CONFORMANCE_ONE_IN=50   one test in 50, chosen by the hash of its name (default 1: all)
    CONFORMANCE_JOBS=2      processes
    CONFORMANCE_SUITES=mil  only these of the suites (mil, torch, tensorflow, passes, states)
    CONFORMANCE_CONTROL=zeros   predictions are replaced by zeros: nearly everything must fail

Results go to build/conformance/; a run that was cut off goes on where it stopped, with any number
of processes, except with --fresh. With --failed, what failed is run again. A file of tests that
cannot be read is a failure of the whole.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.conformance.gaps import GAPS, reason_of

SUITES = {
    "mil": ["converters/mil/mil/ops/tests"],
    "torch": ["converters/mil/frontend/torch/test/test_torch_ops.py"],
    "tensorflow": [
        "converters/mil/frontend/tensorflow/test/test_ops.py",
        "converters/mil/frontend/tensorflow2/test",
    ],
    "passes": ["converters/mil/mil/passes/tests"],
    "states": [
        "converters/mil/frontend/torch/test/test_torch_stateful_model.py",
        "converters/mil/frontend/milproto",
    ],
}
"""Folders and files of coremltools' package."""

TARGETS = {"mil": 0.99, "torch": 0.97, "tensorflow": 0.97}
"""Part of the float32 tests that reach a prediction and must pass."""

Result = dict[str, object]


def folder() -> Path:
    """Where coremltools is installed."""
    found = importlib.util.find_spec("coremltools")
    if found is None or found.origin is None:
        raise SystemExit("coremltools is not installed")
    return Path(found.origin).parent


def build_folder() -> Path:
    """Where this kind of run keeps its results."""
    control = os.environ.get("CONFORMANCE_CONTROL", "")
    one_in = os.environ.get("CONFORMANCE_ONE_IN", "1")
    return Path("build/conformance") / f"one-in-{one_in}{'-' + control if control else ''}"


def start(suite: str, shard: int, shards: int) -> tuple[subprocess.Popen[bytes], Path]:
    """A pytest process over one shard of a suite, and its log."""
    log = build_folder() / f"{suite}-{shard}-of-{shards}.jsonl"
    environment = {
        **os.environ,
        "PYMIL_TEST_TARGETS": "mlprogram",
        "INCLUDE_MIL_FP32_UNIT_TESTS": "1",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CONFORMANCE_LOG": str(log.resolve()),
        "CONFORMANCE_SHARD": f"{shard}/{shards}",
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "pytest", "-p", "tests.conformance.plugin", "-q"]
    command += ["-p", "no:cacheprovider", "-c", os.devnull, "-W", "ignore", "--tb=no", "-rN"]
    command += [
        "--rootdir",
        str(folder()),
        "--import-mode=prepend",
        "--continue-on-collection-errors",
    ]
    command += [str(folder() / path) for path in SUITES[suite]]
    output = log.with_suffix(".out").open("wb")
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output), log


def run(suite: str, shards: int) -> list[Result]:
    """All results of a suite; a shard whose process dies goes on behind the test that killed it."""
    waiting = {shard: start(suite, shard, shards) for shard in range(shards)}
    while waiting:
        shard = next(iter(waiting))
        process, log = waiting.pop(shard)
        if process.wait() in (0, 1, 5):
            continue
        running = Path(f"{log}.running")
        if not running.exists():
            raise SystemExit(f"the tests could not be started: see {log.with_suffix('.out')}")
        name = running.read_text("utf-8")
        running.unlink()
        death = {"test": name, "outcome": "failed", "reached": True, "seconds": 0, "why": "died"}
        with log.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(death) + "\n")
        waiting[shard] = start(suite, shard, shards)
    logs = sorted(build_folder().glob(f"{suite}-*.jsonl"))
    return list({result["test"]: result for log in logs for result in read(log)}.values())


def read(log: Path) -> list[Result]:
    """The lines of a log."""
    return [json.loads(line) for line in log.read_text("utf-8").splitlines()]


def unread_files(suite: str) -> list[str]:
    """The files of a suite's tests that could not be read, each with the reason."""
    found = (
        line
        for path in sorted(build_folder().glob(f"{suite}-*.uncollected"))
        for line in read(path)
    )
    return sorted({f"cannot be read: {line['file']}\n    {line['why']}" for line in found})


def table(results: Iterable[Result]) -> str:
    """Passed, failed and not reaching a prediction, by file and precision."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for result in results:
        name = str(result["test"])
        key = (name.partition("::")[0], precision_of(name))
        kind = str(result["outcome"]) if result["reached"] else "no prediction"
        counts.setdefault(key, Counter())[kind] += 1
    lines = [
        f"{'file':66} {'dtype':8} {'passed':>7} {'failed':>7} {'rounded':>8} "
        f"{'xfail':>6} {'no pred.':>9}"
    ]
    for (path, precision), found in sorted(counts.items()):
        short = path.removeprefix("converters/mil/")
        lines.append(
            f"{short:66} {precision:8} {found['passed']:7} {found['failed']:7} "
            f"{found['rounded']:8} {found['xfailed']:6} {found['no prediction']:9}"
        )
    return "\n".join(lines)


def precision_of(name: str) -> str:
    """The precision that a test's parameters ask of the backend.

    >>> precision_of("a.py::TestA::test_b[backend=('mlprogram', 'fp16')-lut_dtype=fp32]")
    'float16'
    """
    found = re.search(r"('mlprogram', |precision=)'fp(16|32)'", name)
    return f"float{found[2]}" if found else "-"


def forget_failed(log: Path) -> None:
    """Takes what failed out of a log, so that it is run again."""
    kept = [result for result in read(log) if result["outcome"] != "failed"]
    log.write_text("".join(json.dumps(result) + "\n" for result in kept), "utf-8")


def share(results: Iterable[Result], precision: str) -> tuple[int, int]:
    """Passed tests, and all that reached a prediction and were not expected to fail."""
    counted = [
        result
        for result in results
        if result["reached"]
        and result["outcome"] in ("passed", "failed")
        and precision_of(str(result["test"])) == precision
    ]
    return sum(result["outcome"] == "passed" for result in counted), len(counted)


def set_aside(results: Iterable[Result], precision: str) -> int:
    """Tests whose only failed comparisons are finer than float16, as `rounding` says."""
    return sum(
        result["outcome"] == "rounded" and precision_of(str(result["test"])) == precision
        for result in results
    )


def surprises(results: Iterable[Result]) -> list[str]:
    """Failures that the table of gaps does not list, and gaps that pass."""
    lines = []
    for result in results:
        name = str(result["test"])
        reason = reason_of(name)
        if not result["reached"] or result["outcome"] not in ("passed", "failed"):
            continue
        if result["outcome"] == "failed" and reason is None:
            lines.append(f"failed: {name}\n    {result['why']}")
        if result["outcome"] == "passed" and reason is not None and reason.always:
            lines.append(f"passes, though it is listed as a gap: {name}")
    return lines


def report(by_suite: Mapping[str, list[Result]]) -> int:
    """Prints the table and the shares; the exit code."""
    is_control = bool(os.environ.get("CONFORMANCE_CONTROL"))
    print(table(result for results in by_suite.values() for result in results))
    holds = True
    for suite, results in by_suite.items():
        for precision in ("float32", "float16"):
            passed, counted = share(results, precision)
            if not counted:
                continue
            part = passed / counted
            target = TARGETS.get(suite) if precision == "float32" and not is_control else None
            text = f", at least {target:.0%} must" if target else ""
            aside = set_aside(results, precision)
            more = f"; {aside} more differ by less than float16 can hold" if aside else ""
            print(f"{suite}, {precision}: {passed} of {counted} pass ({part:.2%}{text}){more}")
            holds = holds and (target is None or part >= target)
    if is_control:
        return 0
    unread = [line for suite in by_suite for line in unread_files(suite)]
    found = [line for results in by_suite.values() for line in surprises(results)]
    for line in (*unread, *found):
        print(line)
    print(
        f"{len(GAPS)} gaps are listed in tests/conformance/gaps.py; {len(found)} surprises; "
        f"{len(unread)} files cannot be read"
    )
    return 0 if holds and not found and not unread else 1


def main(arguments: list[str]) -> int:
    target = build_folder()
    if "--fresh" in arguments:
        shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True, exist_ok=True)
    for path in target.glob("*.uncollected"):
        path.unlink()
    if "--failed" in arguments:
        for log in target.glob("*.jsonl"):
            forget_failed(log)
    jobs = int(os.environ.get("CONFORMANCE_JOBS", "0")) or os.cpu_count() or 1
    names = os.environ.get("CONFORMANCE_SUITES", ",".join(SUITES)).split(",")
    return report({name: run(name, jobs) for name in names})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
