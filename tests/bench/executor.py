"""The executor beside eager torch and onnxruntime, and how loading and running grow with a package.

The peers of a network live in processes of their own and take turns, so that noise hits all of
them; a ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.bench.measure import CLI, ENVIRONMENT, Row
from tests.bench.programs import long_program, sized_package

CACHE = Path("build/bench/executor")
ROUNDS = {"resnet50": 15, "vit_b": 9, "upscaler": 11, "lstm": 15}
PAUSE = 0.2
"""Seconds before each turn: threads of the peer before it, onnxruntime's above all, spin on."""

SLACK = 1.1
"""Ratios of equal peers scatter by that much on a busy machine."""


class Peer:
    """A process of `tests.bench.peer`, asked line by line."""

    def __init__(self, means: str, name: str, path: Path) -> None:
        command = [sys.executable, "-m", "tests.bench.peer", means, name, str(path)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT
        )

    def ask(self, request: str) -> Any:  # Any: a JSON value
        """The answer to a request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def turn(self) -> float:
        """Seconds of one run, after a pause."""
        time.sleep(PAUSE)
        seconds: float = self.ask("run")
        return seconds

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def made_files(name: str) -> dict[str, Path]:
    """The network's packages of both precisions and its ONNX file, made once."""
    files = {f"float{bits}": CACHE / f"f{bits}" / f"{name}.mlpackage" for bits in (16, 32)}
    files["onnx"] = CACHE / f"{name}.onnx"
    if not all(path.exists() for path in files.values()):
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "tests.bench.sources", name, str(CACHE)], check=True)
        for precision in ("float16", "float32"):
            source, out = str(CACHE / f"{name}.pt"), str(files[precision].parent)
            options = ["-o", out, "-q", "--precision", precision, "--io-precision", "float32"]
            options += ["-i", f"x:{shape_text(name)}"]
            subprocess.run([*CLI, "convert", source, *options], check=True)
    return files


def shape_text(name: str) -> str:
    """The input's shape as `convert` takes it."""
    import numpy as np

    return "x".join(map(str, np.load(CACHE / f"{name}.npy").shape))


def disagreement(peers: dict[str, Peer]) -> dict[str, float]:
    """How far each peer's output is from eager torch's, relative to its largest value."""
    import numpy as np

    found = {}
    for means, peer in peers.items():
        peer.ask(f"save {(CACHE / f'{means}.out.npy').resolve()}")
        found[means] = np.load(CACHE / f"{means}.out.npy").astype(np.float32)
    expected = found["eager"]
    return {
        means: float(np.abs(array - expected).max() / np.abs(expected).max())
        for means, array in found.items()
    }


def network_rows(name: str) -> list[Row]:
    """Time and memory of one network, by all means."""
    files = made_files(name)
    peers = {
        "eager": Peer("eager", name, files["onnx"]),
        "onnxruntime": Peer("onnxruntime", name, files["onnx"]),
        "float32": Peer("executor", name, files["float32"]),
        "float16": Peer("executor", name, files["float16"]),
    }
    try:
        errors = disagreement(peers)
        for peer in peers.values():
            peer.ask("run")
        rounds = [
            {means: peer.turn() for means, peer in peers.items()} for _ in range(ROUNDS[name])
        ]
        memory = {means: peer.ask("memory") for means, peer in peers.items()}
    finally:
        for peer in peers.values():
            peer.close()
    if errors["onnxruntime"] > 1e-3 or errors["float32"] > 1e-3 or errors["float16"] > 5e-2:
        raise SystemExit(f"the peers do not compute the same: {name}: {errors}")

    def ratio(means: str, other: str) -> float:
        return statistics.median(times[means] / times[other] for times in rounds)

    rows = []
    for precision, rival in (("float32", "eager"), ("float16", "float32")):
        own = statistics.median(times[precision] for times in rounds)
        to_eager, to_onnx = ratio(precision, "eager"), ratio(precision, "onnxruntime")
        text = f"{to_eager:.2f} eager, {to_onnx:.2f} onnxruntime ({own * 1000:.0f} ms)"
        budget = f"{SLACK} × {'float32 executor' if rival == 'float32' else rival}"
        holds = ratio(precision, rival) <= SLACK
        rows.append(Row(f"{name} {precision}, time / peers", text, budget, holds))
    for precision in ("float32", "float16"):
        own = memory[precision]
        to_eager, to_onnx = own / memory["eager"], own / memory["onnxruntime"]
        text = f"{to_eager:.2f} eager, {to_onnx:.2f} onnxruntime ({own / 1e6:.0f} MB)"
        holds = to_eager <= SLACK
        rows.append(
            Row(f"{name} {precision}, peak memory / peers", text, f"{SLACK} × eager", holds)
        )
    return rows


def loading(path: Path, repeats: int = 5) -> dict[str, float]:
    """Seconds to load a package, and to run it the first time and later, in a warmed process."""
    code = (
        "import gc, json, sys, time\n"
        "import numpy as np\n"
        "from metal4conv.execute.interpreter import load\n"
        "warm, path, repeats = sys.argv[1:]\n"
        "def once(path):\n"
        "    start = time.perf_counter()\n"
        "    net = load(path)\n"
        "    loaded = time.perf_counter()\n"
        "    feed = {n: np.zeros(t.shape, t.dtype) for n, t in net.inputs.items()}\n"
        "    net.predict(feed)\n"
        "    first = time.perf_counter()\n"
        "    net.predict(feed)\n"
        "    return loaded - start, first - loaded, time.perf_counter() - first\n"
        "once(warm)\n"
        "times = []\n"
        "for _ in range(int(repeats)):\n"
        "    times.append(once(path))\n"
        "    gc.collect()\n"
        "print(json.dumps([min(column) for column in zip(*times)]))\n"
    )
    warm = long_program(CACHE / "warm.mlpackage", 10)
    done = subprocess.run(
        [sys.executable, "-c", code, str(warm), str(path), str(repeats)],
        check=True,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    return dict(zip(("load", "first", "run"), json.loads(done.stdout), strict=True))


def load_rows() -> list[Row]:
    """Load time against the size of the package."""
    rows = []
    for dtype in ("float32", "float16"):
        for megabytes in (10, 100, 1000):
            path = sized_package(CACHE / f"{dtype}_{megabytes}.mlpackage", dtype, megabytes)
            taken = loading(path, 3)
            text = (
                f"{taken['load']:.3f} s (first run {taken['first']:.2f}, later {taken['run']:.2f})"
            )
            rows.append(Row(f"load {megabytes} MB, {dtype}", text, "1 s", taken["load"] <= 1))
    return rows


def length_rows() -> list[Row]:
    """Load and run time of ten times as many operations."""
    rows = []
    for kind in ("chain", "blocks", "loop"):
        short, long = (
            loading(long_program(CACHE / f"{kind}_{count}.mlpackage", count, kind), 5)
            for count in (1000, 10000)
        )
        for part in ("load", "run"):
            ratio = long[part] / short[part]
            text = f"{ratio:.1f} ({short[part] * 1000:.0f} ms → {long[part] * 1000:.0f} ms)"
            label = f"{part}, 10,000 / 1,000 operations, {kind}"
            rows.append(Row(label, text, "15", ratio <= 15))
    return rows


def executor_networks() -> list[Row]:
    """All networks."""
    return [row for name in ROUNDS for row in network_rows(name)]
