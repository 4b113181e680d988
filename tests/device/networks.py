"""A small network for the emulator: `a` (n, 10) and `b` (10) float32 or float16, `n` dynamic.

`product` = a * b and `positive` = relu(a).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metal4conv.device import runner
from metal4conv.device.child import failure_of
from metal4conv.device.emulator import open_api
from metal4conv.device.emulator.package import write_emulated_package
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import Outcome, RunCase, RunRequest
from metal4conv.device.supervision import STDERR_FILE, Ending, outcome_of, write_inputs
from metal4conv.layout.document import LayoutManifest
from metal4conv.layout.manifest import layout_manifest
from metal4conv.mil.package import Package
from tests.device.plans import planned
from tests.layout.packages import PackageBuilder


@dataclass(frozen=True)
class Network:
    """The package, its manifest, and its container for the emulator."""

    package: Package
    manifest: LayoutManifest
    container: Path

    def request(self, *rows: int, **changes) -> RunRequest:
        """A request for each of these numbers of rows."""
        [name] = self.manifest.dimensions or [""]
        cases = tuple(
            planned(self.manifest, f"case{at}", {name: count} if name else {})
            for at, count in enumerate(rows)
        )
        return RunRequest("emulator", str(self.container), cases, **changes)


def write_network(folder: Path, dtype: str = "float32", *, rows: int | None = None) -> Network:
    """The network with a dynamic number of rows, or this fixed one."""
    size = (1, 64) if rows is None else rows
    unknown = "n" if rows is None else rows
    build = PackageBuilder()
    build.input("a", dtype, (size, 10))
    build.input("b", dtype, (10,))
    build.operation("mul", "product", dtype, (unknown, 10), {"x": ["a"], "y": ["b"]})
    build.operation("relu", "positive", dtype, (unknown, 10), {"x": ["a"]})
    build.output("product", dtype)
    build.output("positive", dtype)
    package = build.write(folder / "net.mlpackage")
    manifest = layout_manifest(package)
    container = write_emulated_package(package.path, manifest, folder / "net.mtlpackage")
    return Network(package, manifest, container)


def inputs_of(request: RunRequest) -> dict[str, dict[str, np.ndarray]]:
    """Inputs from a seed for each case, of both signs."""
    generator = np.random.default_rng(5)
    return {case.label: inputs_of_case(case, generator) for case in request.cases}


def inputs_of_case(case: RunCase, generator: np.random.Generator) -> dict[str, np.ndarray]:
    dtypes = {3: np.float32, 16: np.float16}
    return {
        plan.name: generator.normal(size=plan.dimensions[::-1]).astype(dtypes[plan.data_type])
        for plan in case.inputs
    }


def expected(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the network gives, by numpy."""
    return {"product": inputs["a"] * inputs["b"], "positive": np.maximum(inputs["a"], 0)}


def run_in_process(
    folder: Path, request: RunRequest, inputs: dict[str, dict[str, np.ndarray]]
) -> Outcome:
    """What `supervise` gives, of a run in this process, where nothing ends it: a child imports
    torch anew."""
    write_inputs(folder, request, inputs)
    (folder / STDERR_FILE).touch()
    journal = Journal(folder)
    try:
        runner.run(open_api(request.misbehave), request, folder, journal)
        journal.finish()
    except Exception as error:
        journal.fail(failure_of(error))
    return outcome_of(folder, request, Ending(0))
