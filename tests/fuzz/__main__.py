"""`python -m tests.fuzz PACKAGES`: mutated packages, one a seed, each used in every way.

What is not an error of ours is printed with its seed: another exception, a crash, too much memory
or time. The mutations run in a child process with limits; one that ends it is noted, and the next
child goes on behind it. `--count 1 --first SEED --keep FOLDER` looks at one again.
"""

from __future__ import annotations

import argparse
import random
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from metal4conv.errors import Metal4ConvError
from tests.fuzz.limits import SECONDS, InLoop, TooSlow, limit_memory, limited_time

LONGEST = 20_000
"""Characters of a message that somebody still reads."""


def fault(package: Path, draw: random.Random) -> str:
    """What went wrong with a package; empty when it was used or refused in good order."""
    from tests.fuzz import exercise

    uses = [exercise.read_only, exercise.run, exercise.inspect]
    if draw.random() < 0.1:  # symbolic sizes take most of the time
        uses.append(exercise.lay_out)
    for use in uses:
        try:
            with limited_time():
                use(package)
        except Metal4ConvError as error:
            if error.exit_code not in (2, 3) or not error.message or len(str(error)) > LONGEST:
                return f"{use.__name__}: exit code {error.exit_code}: {str(error)[:200]!r}"
        except InLoop:
            continue
        except TooSlow:
            return f"{use.__name__} did not end\n{traceback.format_exc(-8)}"
        except Exception:
            return f"{use.__name__}\n{traceback.format_exc(-8)}"
    return ""


def child(packages: Path, first: int, count: int, keep: Path | None) -> None:
    """Runs the mutations of some seeds; tells each seed before it begins, and what went wrong."""
    from tests.fuzz import exercise
    from tests.fuzz.mutations import mutated

    sound = {path.name: exercise.read_files(path) for path in sorted(packages.glob("*.mlpackage"))}
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first, first + count):
            print(f"seed {seed}", flush=True)
            draw = random.Random(seed)
            name = draw.choice(sorted(sound))
            package = (keep or Path(folder)) / f"{seed if keep else 'net'}.mlpackage"
            exercise.write_files(package, mutated(sound[name], draw))
            for line in fault(package, draw).splitlines():
                print(f"| {line}", flush=True)


def faults(packages: Path, first: int, count: int) -> Iterator[tuple[int, str]]:
    """Seeds with what went wrong, in child processes that are started as often as they end."""
    end = first + count
    while first < end:
        last, lines, reason = first - 1, list[str](), ""
        command = [sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", str(packages)]
        command += ["--child", "--first", str(first), "--count", str(end - first)]
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,  # select does not see what a buffer holds
            ) as process,
        ):
            assert process.stdout is not None
            while True:
                if not select.select([process.stdout], [], [], 6 * SECONDS)[0]:
                    process.kill()
                    reason = "hangs where no signal is heard"
                    break
                line = process.stdout.readline().decode(errors="replace").rstrip("\n")
                if line.startswith("| "):
                    lines.append(line.removeprefix("| "))
                    continue
                if lines:
                    yield last, "\n".join(lines)
                    lines = []
                if not line:
                    break
                last = int(line.removeprefix("seed "))
            process.wait()
            if process.returncode and not reason:
                errors.seek(0)
                said = errors.read().decode(errors="replace")
                reason = f"the process ended with {process.returncode}\n{said[-3000:]}"
        if reason:
            yield last, reason
        first = last + 1 if last >= first else end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("packages", type=Path, help="a folder of sound packages; made if missing")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--keep", type=Path, help="where the mutated packages stay")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.packages.exists():
        from tests.fuzz.packages import make_packages

        make_packages(given.packages)
    if given.child or given.keep:
        child(given.packages, given.first, given.count, given.keep)
        return 0
    found = 0
    for seed, what in faults(given.packages, given.first, given.count):
        found += 1
        print(f"seed {seed}: {what}\n", flush=True)
    print(f"{given.count} mutated packages, {found} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
