"""The sequence of calls and what each answer leads to, on a stub that tells what it was asked."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from metal4conv.device import runner, submission
from metal4conv.device.failures import RunFailed
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import STEPS, RunCase, read_records
from tests.device.plans import X, Y, request
from tests.device.stub_metal import Extents, StubMetal

INPUTS = np.arange(40, dtype=np.float32).reshape(4, 10)


@pytest.fixture
def metal():
    return StubMetal()


@pytest.fixture
def run(metal, tmp_path):
    """Runs a request on the stub and gives back its records."""

    def go(*, inputs=None, is_emulated=False, **changes):
        asked = request(**changes)
        for case in asked.cases:
            save_file(inputs or {"x": INPUTS}, tmp_path / f"{case.label}.inputs.safetensors")
        journal = Journal(tmp_path)
        runner.run(metal.api(is_emulated=is_emulated), asked, tmp_path, journal)
        return read_records(tmp_path)

    return go


def failing(run, **changes) -> RunFailed:
    with pytest.raises(RunFailed) as caught:
        run(**changes)
    return caught.value


def notes(records) -> list[str]:
    return [record.detail for record in records if record.state == "note" and record.detail]


def nserror(text="it is bad", domain="MTLTensorDomain", code=2):
    return SimpleNamespace(
        localizedDescription=lambda: text, domain=lambda: domain, code=lambda: code
    )


def test_all_steps_in_order(run, metal, tmp_path):
    records = run()
    assert [record.name for record in records if record.state == "done"] == list(STEPS)
    assert [record.number for record in records if record.state == "begin"] == list(range(1, 14))
    assert metal.calls == [
        *("register", "compile", "slot 0", "slot 1"),
        *("add", "add", "add", "commit set", "request", "add set"),
        *("begin", "dispatch", "end encoding", "end", "commit", "signal 1", "wait 1", "getBytes"),
    ]
    assert metal.tensors[0].data == INPUTS.tobytes()
    assert records[-1].data["gpu_seconds"] == [0.25]
    outputs = load_file(tmp_path / "case0.device.outputs.safetensors")
    assert outputs["y"].shape == (4, 7)
    assert outputs["y"][0].tolist() == [1, 2, 2, 2, 2, 2, 2]
    assert notes(records) == []


def test_descriptors_of_both_backings(run, metal):
    run(backings=("device", "buffer"))
    device, buffer = metal.tensors[0].descriptor.values, metal.tensors[2].descriptor.values
    assert "Strides" not in device
    assert buffer["Strides"][0].numbers == [1, 16]
    for values in (device, buffer):
        assert (values["Usage"], values["StorageMode"], values["DataType"]) == ((4,), (0,), (3,))
        assert values["Dimensions"][0].numbers == [10, 4]
    assert metal.calls.count("compile") == 1


def test_outputs_are_spoilt_before_the_run(run, metal):
    run()
    assert np.isnan(np.frombuffer(metal.tensors[1].data, np.float32)).all()


def test_repeats_reset_the_allocator_after_the_wait(run, metal):
    records = run(repeat=3)
    assert records[-1].data["gpu_seconds"] == [0.25] * 3
    start = metal.calls.index("begin")
    one = ["begin", "dispatch", "end encoding", "end", "commit", "signal 1", "wait 1"]
    assert metal.calls[start:-1] == [*one, "reset", *one, "reset", *one]


def test_a_pipeline_for_each_set_of_sizes(run, metal):
    metal.shown = [
        metal.binding(X, 0, dimensions=None),
        metal.binding(Y, 2, dimensions=None),
    ]
    wide = (
        replace(X, dimensions=(10, 9), strides=(1, 16), byte_length=576, is_dynamic=True),
        replace(Y, dimensions=(7, 9), byte_length=576, is_dynamic=True),
    )
    dynamic = tuple(replace(plan, is_dynamic=True) for plan in (X, Y))
    cases = (RunCase("a", dynamic), RunCase("b", dynamic))
    records = run(cases=cases)
    assert len(metal.compiled) == 1
    [(sizes, index)] = [
        values for key, values in metal.compiled[0].values.items() if "InputDimensions" in key
    ]
    assert (sizes.numbers, index) == ([10, 4], 0)
    assert "leaves sizes open" in notes(records)[0]
    with pytest.raises(RunFailed, match=r"expects shape \(9, 10\)"):
        run(cases=(RunCase("c", wide),))


def test_fixed_inputs_are_not_given_sizes(run, metal):
    run()
    assert not [key for key in metal.compiled[0].values if "InputDimensions" in key]


def test_a_package_that_is_open_where_the_manifest_is_not(run, metal):
    metal.shown[0] = metal.binding(X, 0, dimensions=Extents().initWithRank_values_(2, [10, -1]))
    records = run()
    assert [key for key in metal.compiled[0].values if "InputDimensions" in key]
    assert "fixed sizes in the layout manifest and open ones (10, -1)" in notes(records)[0]


def test_other_indices_are_bound_as_reflected(run, metal):
    metal.shown = [metal.binding(Y, 2, index=0), metal.binding(X, 0, index=3)]
    run()
    assert [call for call in metal.calls if call.startswith("slot")] == ["slot 3", "slot 0"]


def test_without_reflection(run, metal):
    metal.shown = None
    records = run()
    assert notes(records)[1].endswith("tensors are bound as the manifest says")
    assert records[-1].data["bindings"] == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tensorDataType": 16}, "float16"),
        ({"dimensions": Extents().initWithRank_values_(2, [10, 5])}, "dimensions"),
        ({"name": "z"}, 'no binding for input "x"'),
    ],
)
def test_what_does_not_fit_is_refused_before_compilation(run, metal, change, text):
    metal.shown[0] = metal.binding(X, 0, **change)
    failure = failing(run)
    assert (failure.kind, text in failure.message) == ("refused", True)
    assert "compile" not in metal.calls


@pytest.mark.parametrize("name", ["MTL4CompilerDescriptor", "MTLTensorExtents"])
def test_an_older_system_lacks_classes(run, metal, name):
    delattr(metal.metal, name)
    failure = failing(run)
    assert failure.kind == "missing"
    assert name in failure.message
    assert "macOS 26.0" in failure.message


def test_no_gpu(run, metal):
    metal.metal.MTLCreateSystemDefaultDevice = lambda: None
    assert failing(run).kind == "missing"


def test_a_gpu_without_metal_4(run, metal):
    metal.metal.MTLGPUFamilyMetal4 = 5003
    failure = failing(run)
    assert failure.kind == "missing"
    assert 'GPU "stub" does not support Metal 4' in failure.message


def test_a_bridge_that_passes_one_number(run, metal, monkeypatch):
    def one(self, rank, values):
        self.numbers = [values[0]] + [0] * (rank - 1)
        return self

    monkeypatch.setattr(Extents, "initWithRank_values_", one)
    failure = failing(run)
    assert "was given (3, 5) and holds (3, 0)" in failure.message
    assert "pyobjc-framework-Metal" in failure.hint


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        ("newLibraryWithURL_error_", "newLibraryWithURL:error:"),
        ("newCompilerWithDescriptor_error_", "newCompilerWithDescriptor:error:"),
        ("newTensorWithDescriptor_error_", "newTensorWithDescriptor:error:"),
        ("newArgumentTableWithDescriptor_error_", "newArgumentTableWithDescriptor:error:"),
        ("newResidencySetWithDescriptor_error_", "newResidencySetWithDescriptor:error:"),
    ],
)
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ((None, nserror()), "failed: it is bad (MTLTensorDomain 2)"),
        ((None, None), "failed: no error object"),
        ("one object", "gave str in place of an object and an error"),
    ],
)
def test_errors_name_their_selector(run, metal, selector, name, answer, text):
    device = metal.device()
    setattr(device, selector, lambda *arguments: answer)
    metal.metal.MTLCreateSystemDefaultDevice = lambda: device
    failure = failing(run)
    assert failure.kind == "error"
    assert failure.message == f"{name} {text}"


@pytest.mark.parametrize(
    "selector",
    ["newHeapWithDescriptor_", "newMTL4CommandQueue", "newCommandBuffer", "newSharedEvent"],
)
def test_nothing_is_an_error_too(run, metal, selector):
    device = metal.device()
    setattr(device, selector, lambda *arguments: None)
    metal.metal.MTLCreateSystemDefaultDevice = lambda: device
    assert "gave no object" in failing(run).message


def test_known_texts_have_hints(run, metal):
    answer = (None, nserror("Unsupported Ops or shapes for MLEncoder"))
    metal.compile = lambda *arguments: answer
    assert "control flow" in failing(run).hint


def test_a_function_that_is_not_there(run):
    failure = failing(run, function="mian")
    assert failure.kind == "refused"
    assert 'did you mean "main"?' in failure.message


def test_a_buffer_that_is_too_short(run, metal):
    metal.extra_bytes = -200
    assert "the buffer of tensor" in failing(run, backings=("buffer",)).message


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"strides": (1, 10)}, "multiples of 64"),
        ({"strides": (2, 16)}, "first stride must be 1"),
        ({"strides": (1,)}, "one stride"),
        ({"strides": (1, 0)}, "does not follow"),
        ({"byte_length": 128}, "needs 256 bytes, planned are 128"),
    ],
)
def test_a_plan_with_a_layout_that_metal_refuses(run, changes, text):
    case = RunCase("case0", (replace(X, **changes), Y))
    failure = failing(run, cases=(case,), backings=("buffer",))
    assert (failure.kind, text in failure.message) == ("refused", True), failure.message


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"x": INPUTS.astype(np.float16)}, "got (4, 10) of float16"),
        ({"x": INPUTS.reshape(10, 4)}, "expects shape (4, 10) of float32"),
        ({"xx": INPUTS}, 'did you mean "xx"'),
    ],
)
def test_inputs_that_do_not_fit(run, inputs, text):
    failure = failing(run, inputs=inputs)
    assert (failure.kind, text in failure.message) == ("refused", True), failure.message


def test_a_gpu_that_never_ends(run, metal):
    metal.signals = False
    failure = failing(run, timeout_ms=5)
    assert (failure.kind, failure.message) == ("timeout", "the GPU did not finish within 5 ms")
    assert "getBytes" not in metal.calls


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (nserror("page fault", "MTL4CommandQueueErrorDomain", 3), "error"),
        (nserror("too slow", "MTL4CommandQueueErrorDomain", 1), "timeout"),
    ],
)
@pytest.mark.parametrize("signals", [True, False])
def test_an_error_in_feedback(run, metal, error, kind, signals):
    metal.signals = signals
    metal.feedback.error = lambda: error
    failure = failing(run)
    assert failure.kind == kind
    assert error.localizedDescription() in failure.message


def test_feedback_that_never_comes_is_waited_for_once(run, metal, monkeypatch):
    waits = []
    monkeypatch.setattr(metal, "deliver", lambda handler: None)
    monkeypatch.setattr(
        submission.threading.Event, "wait", lambda event, seconds=None: waits.append(seconds)
    )
    records = run(repeat=3)
    assert waits == [submission.FEEDBACK_PATIENCE, 0.0, 0.0]
    assert notes(records) == ["no commit feedback with GPU times came"]
    assert records[-1].data["gpu_seconds"] == []


def test_feedback_that_cannot_be_read_ends_nothing(run, metal):
    metal.feedback.GPUEndTime = lambda: 1 / 0
    assert "ZeroDivisionError" in notes(run())[0]


def test_a_system_without_commit_options(run, metal):
    del metal.metal.MTL4CommitOptions
    assert run()[-1].data["gpu_seconds"] == []


def test_the_first_dispatch_is_captured(run, metal, tmp_path):
    made = add_capture(metal)
    path = str(tmp_path / "a.gputrace")
    run(capture=path, backings=("device", "buffer"), repeat=2)
    calls = [call for call in metal.calls if call in ("begin", "wait 1", "start", "stop")]
    assert calls == ["start", "begin", "wait 1", "stop"] + ["begin", "wait 1"] * 3
    assert made[0].values["OutputURL"] == (f"file:{path}",)
    assert made[0].values["Destination"] == (2,)


def test_a_capture_that_does_not_start(run, metal):
    add_capture(metal, started=(False, nserror("capture is not enabled")))
    assert "capture is not enabled" in failing(run, capture="a.gputrace").message


def test_a_capture_that_exists_is_not_written_over(run, metal, tmp_path):
    add_capture(metal)
    (tmp_path / "a.gputrace").mkdir()
    failure = failing(run, capture=str(tmp_path / "a.gputrace"))
    assert (failure.kind, "is there already" in failure.message) == ("refused", True)


def test_the_emulator_writes_no_captures(run):
    failure = failing(run, is_emulated=True, capture="a.gputrace")
    assert failure.kind == "refused"


def add_capture(metal, started=(True, None)) -> list:
    from tests.device.stub_metal import Stored

    made = []

    def start(descriptor, error):
        made.append(descriptor)
        return metal.note("start", started)

    manager = SimpleNamespace(
        supportsDestination_=lambda destination: destination == 2,
        startCaptureWithDescriptor_error_=start,
        stopCapture=lambda: metal.note("stop"),
    )
    metal.metal.MTLCaptureManager = SimpleNamespace(sharedCaptureManager=lambda: manager)
    metal.metal.MTLCaptureDescriptor = type("MTLCaptureDescriptor", (Stored,), {})
    metal.metal.MTLCaptureDestinationGPUTraceDocument = 2
    return made


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([np.nan, np.nan], 'output "y" is all NaN'),
        ([np.nan, 1], 'output "y" has 1 NaN among 2 values'),
        ([3, 3], 'output "y" is 3.0 everywhere'),
        ([3, 4], None),
        ([3], None),
    ],
)
def test_odd_outputs_are_noted(tmp_path, values, text):
    runner.note_oddities(Journal(tmp_path), {"y": np.array(values, np.float32)})
    found = notes(read_records(tmp_path))
    assert found[0].startswith(text) if text else found == [], found
