"""When work of the emulated GPU runs, and for how long what it uses has to live."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest

from metal4conv.device.emulator.package import write_emulated_package
from metal4conv.device.emulator.rules import BrokenRule
from metal4conv.layout.manifest import manifest_of
from metal4conv.mil.package import read_package
from tests.device.emulated import Pass, X, metal_package
from tests.layout.packages import PackageBuilder


@pytest.fixture
def run(tmp_path):
    return Pass(metal_package(tmp_path)).prepared()


def second_stage(run: Pass) -> Pass:
    """A pass on the same queue that doubles the first one's output into its own `y`."""
    then = replace(run, kept=[])
    then.api, then.metal, then.device = run.api, run.metal, run.device
    then.state, then.memory, then.queue = run.state, run.memory, run.queue
    then.x, then.y = run.y, run.tensor(10, 2)[0]
    then.arguments = run.table(then.x, then.y)
    then.set = run.residency(then.x, then.y, then.memory)
    then.queue.addResidencySet_(then.set)
    then.allocator, then.commands = run.device.newCommandAllocator(), run.device.newCommandBuffer()
    then.event = run.device.newSharedEvent()
    return then


def test_what_was_committed_first_runs_first(run):
    then = second_stage(run)
    run.encode().commit()
    then.encode(barrier=True).commit()
    assert then.wait()
    np.testing.assert_array_equal(run.read(then.y), 4 * X)
    assert run.wait()


def test_work_after_the_awaited_signal_is_not_done(run):
    run.queue.signalEvent_value_(run.event, 1)
    run.encode().commit(2)
    assert run.wait()
    with pytest.raises(BrokenRule, match="wait-first"):
        run.read(run.y)
    assert run.wait(value=2)
    np.testing.assert_array_equal(run.read(run.y), 2 * X)


def test_work_that_no_signal_follows_is_not_done(run):
    run.encode().queue.commit_count_([run.commands], 1)
    assert not run.wait(timeout=10)
    with pytest.raises(BrokenRule, match="wait-first"):
        run.write(run.x)


def test_who_asks_for_the_value_sees_the_work_end(run):
    run.encode().commit()
    assert run.event.signaledValue() == 1
    np.testing.assert_array_equal(run.read(run.y), 2 * X)


def test_a_queue_waits_for_an_event_of_another(run):
    then = second_stage(run)
    then.queue = run.device.newMTL4CommandQueue()
    then.queue.addResidencySet_(then.set)
    then.queue.waitForEvent_value_(run.event, 1)
    then.encode().commit()
    run.encode().commit()
    assert then.wait()
    np.testing.assert_array_equal(run.read(then.y), 4 * X)


def test_a_queue_whose_event_never_comes_waits(run):
    run.queue.waitForEvent_value_(run.device.newSharedEvent(), 1)
    run.encode().commit()
    assert not run.wait(timeout=10)


def test_a_queue_that_waits_for_itself_waits(run):
    run.queue.waitForEvent_value_(run.event, 1)
    run.encode().commit()
    assert not run.wait(timeout=10)


def test_an_event_that_the_app_signals(run):
    event = run.device.newSharedEvent()
    run.queue.waitForEvent_value_(event, 3)
    run.encode().commit()
    threading.Timer(0.05, event.setSignaledValue_, [3]).start()
    assert run.wait(timeout=5000)
    np.testing.assert_array_equal(run.read(run.y), 2 * X)


def test_a_buffer_must_live_although_its_tensor_does(run):
    run.x = run.in_buffer(10, 2, strides=(1, 32))[0]
    run.write(run.x)
    run.arguments = run.table(run.x, run.y)
    run.set.addAllocation_(run.x.buffer())
    run.set.commit()
    run.encode().commit()
    run.kept.clear()
    with pytest.raises(BrokenRule, match=r'kept-alive.*the buffer of binding "x"'):
        run.wait()


@pytest.mark.parametrize("command", ["dispatch", "barrier", "end"])
def test_an_encoder_that_has_ended_takes_no_commands(run, command):
    run.commands.beginCommandBufferWithAllocator_(run.allocator)
    encoder = run.commands.machineLearningCommandEncoder()
    encoder.setPipelineState_(run.state)
    encoder.setArgumentTable_(run.arguments)
    encoder.endEncoding()
    commands = {
        "dispatch": lambda: encoder.dispatchNetworkWithIntermediatesHeap_(run.memory),
        "barrier": lambda: encoder.barrierAfterStages_beforeQueueStages_visibilityOptions_(
            1 << 30, 1 << 27, 1
        ),
        "end": encoder.endEncoding,
    }
    with pytest.raises(BrokenRule, match="encoder-ended"):
        commands[command]()


def test_residency_of_a_command_buffer_is_for_one_encoding(run):
    run.queue = run.device.newMTL4CommandQueue()
    run.commands.beginCommandBufferWithAllocator_(run.allocator)
    run.commands.useResidencySet_(run.set)
    run.encode().commit()  # begins anew
    with pytest.raises(BrokenRule, match="resident:"):
        run.wait()


def test_residency_of_a_command_buffer_is_enough(run):
    run.queue = run.device.newMTL4CommandQueue()
    begin = run.commands.beginCommandBufferWithAllocator_

    def begin_with_residency(allocator):
        begin(allocator)
        run.commands.useResidencySet_(run.set)

    run.commands.beginCommandBufferWithAllocator_ = begin_with_residency
    run.encode().commit()
    assert run.wait()
    np.testing.assert_array_equal(run.read(run.y), 2 * X)


def test_compilers_of_one_device_compile_one_at_a_time(tmp_path):
    run = Pass(metal_package(tmp_path))
    run.pipeline()
    with run.kept[-1].busy, pytest.raises(BrokenRule, match="compile-alone"):
        run.pipeline()  # by a new compiler


def test_a_size_that_the_package_does_not_allow_is_not_compiled(tmp_path):
    run = Pass(metal_package(tmp_path, is_dynamic=True))
    state, error = run.pipeline((10, 9))
    assert state is None
    assert "Unsupported Ops or shapes for MLEncoder" in error.localizedDescription()
    assert "allowed is 1 to 4" in error.localizedDescription()


def test_an_output_of_unknown_size_is_not_compiled(tmp_path):
    build = PackageBuilder()
    build.input("x", "float32", (2, 10))
    build.operation("non_zero", "y", "int32", ("?", 2), {"x": ["x"]})
    build.output("y", "int32")
    package = build.write(tmp_path / "net.mlpackage")
    manifest = manifest_of(read_package(package.path))
    target = tmp_path / "net.mtlpackage"
    run = Pass(write_emulated_package(package.path, manifest, target))
    state, error = run.pipeline()
    assert state is None
    assert 'output "y" has dimensions (2, ' in error.localizedDescription()
