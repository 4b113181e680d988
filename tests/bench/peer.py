"""A process that runs one network by one means: `python -m tests.bench.peer MEANS NAME PATH`.

It answers each line of its input with a line of JSON: `run` with the seconds of one run, `memory`
with the bytes that loading and running have added to what the imports took.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
"""All peers get as many."""


def peak_bytes() -> int:
    """Peak resident memory of this process.

    Linux hands down `ru_maxrss` from the process that started this one, so its own count comes
    first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def eager(name: str, _: str) -> tuple[Callable[[], Any], int]:
    """The network itself, in torch."""
    import torch

    from tests.bench.networks import example, network

    torch.set_num_threads(THREADS)
    x = example(name)
    before = peak_bytes()
    net = network(name)

    def run() -> Any:
        with torch.inference_mode():
            return net(x).numpy()

    return run, before


def onnxruntime(name: str, path: str) -> tuple[Callable[[], Any], int]:
    """Its export, in onnxruntime; the arrays come from a file, so that torch is not loaded."""
    import numpy as np
    import onnxruntime as runtime

    x = np.load(Path(path).with_suffix(".npy"))
    before = peak_bytes()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed)[0], before


def executor(name: str, path: str) -> tuple[Callable[[], Any], int]:
    """Its package, in the executor."""
    import torch

    from metal4conv.execute.interpreter import load
    from tests.bench.networks import example

    torch.set_num_threads(THREADS)
    x = example(name).numpy()
    before = peak_bytes()
    net = load(path)
    feed = {next(iter(net.inputs)): x.astype(next(iter(net.inputs.values())).dtype)}
    return lambda: next(iter(net.predict(feed).values())), before


MEANS = {"eager": eager, "onnxruntime": onnxruntime, "executor": executor}


def serve(means: str, name: str, path: str) -> None:
    """Answers until the input ends."""
    run, before = MEANS[means](name, path)
    for line in sys.stdin:
        match line.split():
            case ["run"]:
                start = time.perf_counter()
                run()
                answer: Any = time.perf_counter() - start
            case ["save", target]:
                import numpy as np

                np.save(target, run())
                answer = True
            case ["memory"]:
                answer = peak_bytes() - before
            case _:
                raise SystemExit(f"unknown request {line!r}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
