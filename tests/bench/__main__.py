"""`make bench`: each figure beside its peer and its budget.

`--quick` leaves out what takes minutes; `--only executor` has the executor's rows alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tests.bench.executor import executor_networks, length_rows, load_rows
from tests.bench.formats import FORMATS
from tests.bench.measure import CLI, PASS, Row, Subject, interleaved, peak_megabytes, seconds, show

CACHE = Path("build/bench")
BASELINE = Path(__file__).with_name("baseline.py")


def program(name: str) -> Path:
    """The `.pt2` file of a network, made once."""
    path = CACHE / f"{name}.pt2"
    if not path.exists():
        import torch

        from tests.bench.networks import exported

        CACHE.mkdir(parents=True, exist_ok=True)
        torch.export.save(exported(name), path)
    return path


def startup() -> list[Row]:
    """`--help` beside an empty Python."""
    own, empty = interleaved([[*CLI, "--help"], PASS], 15)
    ratio = own / empty
    return [Row("--help / python -c pass", f"{ratio:.1f} ({own * 1000:.0f} ms)", "6", ratio <= 6)]


def packages() -> list[Row]:
    """Reading a package with over 300 MB of weights, ours and a foreign one."""
    source = program("vit_l")
    own, foreign = CACHE / "own" / "vit_l.mlpackage", CACHE / "vit_l.mlpackage"
    if not own.exists():
        subprocess.run([*CLI, "convert", source, "-o", own.parent, "-q"], check=True)
    if not foreign.exists():
        script = [sys.executable, str(BASELINE), str(source), str(foreign)]
        subprocess.run(script, check=True, stderr=subprocess.DEVNULL)
    megabytes = sum(path.stat().st_size for path in own.rglob("*") if path.is_file()) / 1e6
    rows = []
    for label, package in (("ours", own), ("foreign", foreign)):
        for name in ("inspect", "layout"):
            command = [*CLI, name, str(package)]
            taken, empty = interleaved([command, PASS], 7)
            memory = peak_megabytes(command)
            text = f"{taken:.2f} s, {taken / empty:.1f} × python -c pass, {memory:.0f} MB"
            label_text = f"{name} of a package of {megabytes:.0f} MB, {label}"
            rows.append(Row(label_text, text, "0.3 s, 100 MB", taken <= 0.3 and memory <= 100))
    return rows


def conversions() -> list[Row]:
    """`convert` from start to end beside a bare coremltools script."""
    rows = []
    for name in ("resnet50", "vit_b"):
        source = program(name)
        out = CACHE / "convert"
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(3):
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir()
            ours.append(seconds([*CLI, "convert", str(source), "-o", str(out / "ours"), "-q"]))
            script = [sys.executable, str(BASELINE), str(source), str(out / "theirs.mlpackage")]
            theirs.append(seconds(script))
        own, other = sorted(ours)[1], sorted(theirs)[1]
        text = f"{own / other:.2f} ({own:.1f} s / {other:.1f} s)"
        rows.append(Row(f"convert {name} / bare coremltools script", text, "1", own <= other))
    return rows


GROUPS: dict[str, list[Subject]] = {
    "startup": [startup],
    "packages": [packages],
    "executor": [length_rows, load_rows, executor_networks],
    "conversions": [conversions],
    "formats": FORMATS,
}
QUICK = ("startup", "packages")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=GROUPS)
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(QUICK if options.quick else GROUPS)
    held = [show(subject()) for name in names for subject in GROUPS[name]]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
