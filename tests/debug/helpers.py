"""Makes the packages of the corpus, right and wrong ones, and says what `debug` found in them."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from metal4conv import convert, load
from metal4conv.debug.debugging import debug
from metal4conv.frontends.source import ModelSource, open_source, parse_options
from metal4conv.frontends.toolkit import quiet
from metal4conv.mil.package import read_package
from metal4conv.mil.program import Operation
from metal4conv.report import Report
from metal4conv.verify.golden import golden_path, read_golden
from metal4conv.verify.verification import package_input
from tests.conftest import SAMPLES
from tests.debug.cases import NETWORKS, Case, Network
from tests.debug.faults import (
    CodeFault,
    GraphFault,
    LayerFault,
    NothingChanged,
    PackageFault,
    operations_named,
)

HERE = Path(__file__).parent


@dataclass
class Workshop:
    """Converts each network once for each precision, and seeds faults in copies."""

    folder: Path
    packages: dict[tuple[str, str], Path] = field(default_factory=dict)
    sources: dict[str, ModelSource] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    outputs: dict[Path, dict[str, np.ndarray]] = field(default_factory=dict)

    def right(self, name: str, precision: str) -> Path:
        """The package of a network without a fault."""
        if (name, precision) not in self.packages:
            text = self.source_text(name)
            self.packages[name, precision] = self.converted(name, text, precision, "right")
        return self.packages[name, precision]

    def source(self, name: str) -> ModelSource:
        """The network without a fault, opened."""
        if name not in self.sources:
            self.sources[name] = open_source(self.source_text(name), self.options(name))
        return self.sources[name]

    def options(self, name: str):
        """What is said about a network's inputs."""
        network = NETWORKS[name]
        return parse_options(network.inputs, network.dims, weights=weights_of(network))

    def source_text(self, name: str) -> str:
        """The network as `convert` takes it; files that must be made are made once."""
        network = NETWORKS[name]
        folder = self.folder / name
        return write_source(network, folder, None)

    def converted(self, name: str, text: str, precision: str, way: str) -> Path:
        """The package of a source, in a folder of its own."""
        network = NETWORKS[name]
        done = convert(
            text,
            inputs=network.inputs,
            dims=network.dims,
            weights=weights_of(network),
            precision=precision,
            name="net",
            output=self.folder / name / way / precision,
        )
        return done.package

    def faulty(self, case: Case) -> Path:
        """The package with the fault."""
        folder = self.folder / case.name
        if isinstance(case.fault, PackageFault):
            right = self.right(case.network, case.precision)
            folder.mkdir()
            case.fault.apply(right, folder / right.name)
            return folder / right.name
        text = write_source(NETWORKS[case.network], folder, case.fault)
        return self.converted(case.network, text, case.precision, f"faulty/{case.name}")

    def debugged(self, case: Case) -> Answer:
        """What `debug` says about the faulty package; it is asked once."""
        if case.name not in self.answers:
            self.answers[case.name] = self.ask(case)
        return self.answers[case.name]

    def ask(self, case: Case) -> Answer:
        """Seeds the fault and runs `debug`."""
        try:
            package = self.faulty(case)
        except NothingChanged:
            shutil.rmtree(self.folder / case.name)
            raise
        right = self.right(case.network, case.precision)
        change = self.change(right, package)
        # what was converted from changed code has golden vectors of its own, of the same inputs
        golden = golden_path(right) if isinstance(case.fault, PackageFault) else None
        report = debug(package, self.source(case.network), golden=golden)
        operations = read_package(package).function().block.operations
        return Answer(case, report, operations, change)

    def change(self, right: Path, package: Path) -> float:
        """The largest change of an output, as a part of its largest magnitude."""
        if right not in self.outputs:
            self.outputs[right] = outputs_of(right, right)
        changes = []
        found = outputs_of(package, right)
        for name, expected in self.outputs[right].items():
            assert found[name].shape == expected.shape
            changes.append(np.abs(found[name] - expected).max() / np.abs(expected).max())
        return float(max(changes))


def outputs_of(package: Path, right: Path) -> dict[str, np.ndarray]:
    """The outputs of a package for the first golden inputs of the right one, wide."""
    [case, *_] = read_golden(golden_path(right)).cases
    executor = load(package)
    feed = {
        name: package_input(array, executor.inputs[name]) for name, array in case.inputs.items()
    }
    found = executor.predict_arrays(feed)
    return {name: np.asarray(array, np.float64) for name, array in found.items()}


@dataclass(frozen=True)
class Answer:
    """The report about a faulty package, and how near it comes to the fault."""

    case: Case
    report: Report
    operations: Sequence[Operation]
    change: float

    @property
    def named(self) -> str | None:
        """The operation named first, by the first of its outputs."""
        first = self.report.data["first"]
        return next(
            (
                row.outputs[0].name
                for row in self.operations
                if first in [value.name for value in row.outputs]
            ),
            None,
        )

    @property
    def right(self) -> set[str]:
        """The operations that are right answers, by the first of their outputs."""
        found = [row for name in self.case.right for row in operations_named(self.operations, name)]
        assert found, f"none of {self.case.right} is in the package"
        return {row.outputs[0].name for row in found}

    @property
    def neighbours(self) -> set[str]:
        """What gives a right operation its inputs, and what takes its outputs."""
        makers = {value.name: row for row in self.operations for value in row.outputs}
        right = self.right
        found = set()
        for row in self.operations:
            if row.type == "const":
                continue
            given = [makers[name] for name in taken(row) if name in makers]
            names = {item.outputs[0].name for item in given if item.type != "const"}
            if row.outputs[0].name in right:
                found |= names
            elif names & right:
                found.add(row.outputs[0].name)
        return found - right

    @property
    def verdict(self) -> str:
        """How near the first cause is to the fault.

        `right`: it is the operation; `neighbour`: it gives or takes a value of the operation;
        `part`: it ends a part that the source has one value for, and the operation is named as one
        of that part; `elsewhere`; `nothing` where no operation is named.
        """
        if self.named is None:
            return "nothing"
        if self.named in self.right:
            return "right"
        if self.named in self.neighbours:
            return "neighbour"
        part = self.report.data["causes"][0]["with"]
        return "part" if self.right & set(part) else "elsewhere"

    def __str__(self) -> str:
        kinds = [row["kind"] for row in self.report.data["causes"]]
        coverage = self.report.data["coverage"]
        return (
            f"{self.case.name:36} {NETWORKS[self.case.network].framework:11} {self.case.kind:9} "
            f"{self.case.precision} {self.verdict:10} {self.named} for {', '.join(self.case.right)}"
            f" (output changes by {self.change:.1g}; {len(kinds)} causes, {kinds[:1]}; "
            f"{coverage['compared']} of {coverage['operations']} compared)"
        )


def taken(operation: Operation) -> list[str]:
    """The names of the values that an operation takes."""
    return [item for group in operation.inputs.values() for item in group if isinstance(item, str)]


def weights_of(network: Network) -> str | None:
    """The file of weights of a sample that is a factory."""
    path = SAMPLES / f"{network.name}.safetensors"
    return str(path) if network.origin == "sample" and path.exists() else None


def write_source(network: Network, folder: Path, fault: object) -> str:
    """A source model, with a fault or without, as `convert` takes it."""
    folder.mkdir(parents=True, exist_ok=True)
    match network.origin:
        case "sample" if network.name == "denoiser":
            return onnx_source(SAMPLES / "denoiser.onnx", folder, fault)
        case "sample" if network.name == "animation_blend":
            assert fault is None
            return str(SAMPLES / network.name)
        case "sample":
            return code_source(SAMPLES / f"{network.name}.py", folder, network.name, fault)
        case "code":
            return code_source(HERE / "networks.py", folder, network.name, fault)
        case "script":
            return script_source(network.name, folder, fault)
        case "transformers":
            return code_source(HERE / "outside.py", folder, network.name, fault)
        case "outside":
            return onnx_source(exported_outside(network.name, folder), folder, fault)
        case "keras":
            return keras_source(folder, fault)
    raise AssertionError(network.origin)


def code_source(file: Path, folder: Path, factory: str, fault: object) -> str:
    """A factory in a Python file, or in an edited copy of it."""
    if fault is None:
        return f"{file}:{factory}"
    assert isinstance(fault, CodeFault)
    (folder / file.name).write_text(fault.apply(file.read_text("utf-8")), "utf-8")
    return f"{folder / file.name}:{factory}"


def imported(file: Path) -> ModuleType:
    """The module in a file, under a name that no other has."""
    spec = importlib.util.spec_from_file_location(f"networks_{abs(hash(file))}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script_source(factory: str, folder: Path, fault: object) -> str:
    """A traced module as TorchScript."""
    path = folder / "net.pt"
    if not path.exists():
        target = code_source(HERE / "networks.py", folder, factory, fault)
        module, examples = getattr(imported(Path(target.rpartition(":")[0])), factory)()
        with quiet():
            torch.jit.trace(module, examples, strict=False).save(path)
    return str(path)


def exported_outside(name: str, folder: Path) -> Path:
    """An ONNX export of a network from outside."""
    path = folder / "exported.onnx"
    if not path.exists():
        from tests.outside.onnx_exports import export

        export(name, "torchscript", 17, False, path)
    return path


def onnx_source(file: Path, folder: Path, fault: object) -> str:
    """An ONNX file, or a changed copy of it."""
    if fault is None:
        return str(file)
    import onnx

    assert isinstance(fault, GraphFault)
    model = onnx.load(file)
    fault.change(model)
    onnx.checker.check_model(model)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return str(path)


def keras_source(folder: Path, fault: object) -> str:
    """The Keras network, or a copy with a changed layer."""
    from tests.debug.keras_network import save_scenery

    path = folder / "net.keras"
    if not path.exists():
        assert fault is None or isinstance(fault, LayerFault)
        save_scenery(path, fault)
    return str(path)
