"""The runner on the emulator from end to end, and on an emulator that misbehaves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metal4conv.device import submission
from metal4conv.device.emulator import open_api
from metal4conv.device.emulator.misbehaviour import MISBEHAVIOURS
from metal4conv.device.protocol import STEPS, Outcome
from metal4conv.device.supervision import supervise
from tests.device.networks import Network, expected, inputs_of, run_in_process, write_network


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Network:
    return write_network(tmp_path_factory.mktemp("network"))


def run_child(network: Network, *rows: int, child_timeout: float = 60.0, **changes) -> Outcome:
    """The outcome of a child process."""
    request = network.request(*rows or (3,), **{"timeout_ms": 5000, **changes})
    outcome = supervise(request, inputs_of(request), child_timeout=child_timeout)
    check_results(request, outcome)
    return outcome


@pytest.fixture
def run(network, tmp_path):
    """The outcome of a run in this process."""

    def run_here(*rows: int, network: Network = network, **changes) -> Outcome:
        request = network.request(*rows or (3,), **{"timeout_ms": 5000, **changes})
        outcome = run_in_process(tmp_path, request, inputs_of(request))
        check_results(request, outcome)
        return outcome

    return run_here


def check_results(request, outcome: Outcome) -> None:
    """All outputs that came are right, unless the emulator was to make them wrong."""
    inputs = inputs_of(request)
    for result in outcome.results if "output" not in (request.misbehave or "") else ():
        for name, array in expected(inputs[result.label]).items():
            assert result.outputs[name].dtype == array.dtype
            tolerance = 1e-6 if array.dtype == np.float32 else 2e-3
            np.testing.assert_allclose(result.outputs[name], array, rtol=tolerance, atol=tolerance)


def notes(outcome: Outcome) -> str:
    return "\n".join(
        record.detail for record in outcome.records if record.state == "note" and record.detail
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rows", [None, 4])
def test_both_backings_and_several_sizes(tmp_path, dtype, rows):
    network = write_network(tmp_path, dtype, rows=rows)
    sizes = (4,) if rows else (1, 64, 7)
    outcome = run_child(network, *sizes, backings=("device", "buffer"), repeat=2)
    assert outcome.failure is None, outcome.failure
    assert [(row.label, row.backing) for row in outcome.results] == [
        (f"case{at}", backing) for at in range(len(sizes)) for backing in ("device", "buffer")
    ]
    assert all(len(row.gpu_seconds) == 2 for row in outcome.results)
    assert all(
        {item.name for item in row.bindings} == {"a", "b", "product", "positive"}
        for row in outcome.results
    )
    assert outcome.device
    assert len(outcome.library_bindings) == 4
    done = [record.name for record in outcome.records if record.state == "done"]
    assert set(done) == set(STEPS)
    assert done.count("compile the pipeline") == len(sizes)


def test_equal_sizes_share_a_pipeline(run):
    outcome = run(5, 5)
    assert len(outcome.results) == 2
    names = [record.name for record in outcome.records if record.state == "done"]
    assert names.count("compile the pipeline") == 1


@pytest.mark.parametrize(
    ("misbehave", "note"),
    [
        ("nil-reflection", "the pipeline shows no reflection"),
        ("nil-dimensions", "leaves sizes open"),
        ("dynamic-dimensions", "leaves sizes open"),
        ("huge-dimensions", "leaves sizes open"),
        ("other-order", ""),
        ("empty-names", ""),
        ("no-feedback", "no commit feedback with GPU times came"),
        ("constant-output", "everywhere"),
        ("nan-output", "NaN"),
    ],
)
def test_what_the_runner_gets_along_with(run, misbehave, note):
    outcome = run(3, 8, misbehave=misbehave, backings=("device", "buffer"))
    assert outcome.failure is None, outcome.failure
    assert len(outcome.results) == 4
    assert note in notes(outcome)
    assert bool(note) == bool(notes(outcome))


def test_other_order_is_other_indices(run):
    [result] = run(misbehave="other-order").results
    found = {binding.name: binding.index for binding in result.bindings}
    assert max(found["product"], found["positive"]) < min(found["a"], found["b"])


def test_without_feedback_there_are_no_times(run):
    [result] = run(misbehave="no-feedback").results
    assert result.gpu_seconds == ()


@pytest.mark.parametrize(
    ("misbehave", "kind", "step", "text"),
    [
        ("timeout", "timeout", "commit and wait", "the GPU did not finish within 500 ms"),
        ("feedback-error", "error", "commit and wait", "the GPU reports: "),
        ("compile-error", "error", "compile the pipeline", "Unsupported Ops or shapes for MLEnc"),
        ("broken-extents", "error", "check the bridge", "the bridge to Metal is wrong"),
        ("no-metal4", "missing", "find the device", "does not support Metal 4"),
        ("no-device", "missing", "find the device", "Metal finds no GPU"),
        ("old-system", "missing", "find the device", "system's Metal has no MTLTensorExtents"),
    ],
)
def test_what_ends_a_run(run, misbehave, kind, step, text):
    failure = run(misbehave=misbehave, timeout_ms=500).failure
    assert (failure.kind, failure.name) == (kind, step), failure
    assert text in failure.message
    assert failure.number == STEPS.index(step) + 1


@pytest.mark.parametrize(
    ("misbehave", "step"),
    [("abort", "commit and wait"), ("abort-at-compile", "compile the pipeline")],
)
def test_an_abort_is_told_with_its_step_and_stderr(network, misbehave, step):
    failure = run_child(network, misbehave=misbehave).failure
    number = STEPS.index(step) + 1
    assert (failure.kind, failure.number, failure.name) == ("aborted", number, step)
    assert failure.message == f"aborted at step {number}: {step} (signal SIGABRT)"
    assert "assertion" in failure.stderr


def test_what_is_missing_is_told_by_a_child_too(network):
    failure = run_child(network, misbehave="no-metal4").failure
    assert (failure.kind, failure.number) == ("missing", 1)


def test_a_compilation_that_hangs_is_ended(network):
    failure = run_child(network, misbehave="hang", child_timeout=5.0).failure
    assert (failure.kind, failure.name) == ("timeout", "compile the pipeline")
    assert "no sign of life for 5 s at step 5: compile the pipeline" in failure.message


def test_a_compile_error_comes_with_a_hint(run):
    failure = run(misbehave="compile-error").failure
    assert "control flow" in failure.hint


def test_a_rule_that_the_runner_breaks_is_an_error(run, monkeypatch):
    monkeypatch.setattr(submission, "HEAP_PLACEMENT", 0)
    failure = run().failure
    assert (failure.kind, failure.name) == ("error", "encode the dispatch")
    assert "BrokenRule: heap-type: the heap's type is placement" in failure.message


def test_an_unknown_misbehaviour_is_refused(run):
    failure = run(misbehave="dance").failure
    assert failure.kind == "refused"
    assert "dance" in failure.message


def test_every_misbehaviour_is_tested():
    files = (Path(__file__), Path(__file__).with_name("test_compute.py"))
    text = "".join(file.read_text("utf-8") for file in files)
    assert [name for name in MISBEHAVIOURS if f'"{name}"' not in text] == []


def test_the_emulator_says_that_it_is_one():
    assert open_api(None).is_emulated
