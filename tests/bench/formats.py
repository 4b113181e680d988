"""Packages converted from ONNX beside those of the same network from PyTorch."""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from functools import partial
from pathlib import Path

from tests.bench.executor import CACHE, ROUNDS, SLACK, Peer, made_files, shape_text
from tests.bench.measure import CLI, Row, Subject, interleaved

NETWORKS = ("resnet50", "vit_b", "upscaler")


def operation_counts(package: Path) -> Counter[str]:
    """How often each operation stands in a package, without constants."""
    from metal4conv.mil.package import read_package

    operations = read_package(package).function().block.walk()
    return Counter(item.type for item in operations if item.type != "const")


def network_rows(name: str) -> list[Row]:
    """Conversion time, number of operations and run time, ONNX over PyTorch."""
    files = made_files(name)
    out = CACHE / "formats"
    shutil.rmtree(out, ignore_errors=True)
    options = ["-q", "--precision", "float32"]
    from_onnx = [*CLI, "convert", str(files["onnx"]), "-o", str(out / "onnx"), *options]
    shape = ["-i", f"x:{shape_text(name)}"]
    script = str(CACHE / f"{name}.pt")
    from_torch = [*CLI, "convert", script, "-o", str(out / "torch"), *options, *shape]
    own, other = interleaved([from_onnx, from_torch], 3)
    packages = {key: out / key / f"{name}.mlpackage" for key in ("onnx", "torch")}
    counts = {key: operation_counts(path).total() for key, path in packages.items()}
    share = counts["onnx"] / counts["torch"]
    peers = {key: Peer("executor", name, path) for key, path in packages.items()}
    try:
        for peer in peers.values():
            peer.ask("run")
        rounds = [
            {key: peer.ask("run") for key, peer in peers.items()} for _ in range(ROUNDS[name])
        ]
    finally:
        for peer in peers.values():
            peer.close()
    time = statistics.median(times["onnx"] / times["torch"] for times in rounds)
    return [
        Row(
            f"{name}, convert .onnx / TorchScript",
            f"{own / other:.2f} ({own:.1f} s / {other:.1f} s)",
            f"{SLACK}",
            own <= SLACK * other,
        ),
        Row(
            f"{name}, operations from .onnx / TorchScript",
            f"{share:.2f} ({counts['onnx']} / {counts['torch']})",
            "0.9 … 1.1",
            0.9 <= share <= 1.1,
        ),
        Row(f"{name}, executor, .onnx / TorchScript", f"{time:.2f}", f"{SLACK}", time <= SLACK),
    ]


FORMATS: list[Subject] = [partial(network_rows, name) for name in NETWORKS]
"""A subject for each network."""
