"""Compute passes on the emulator: a right one, and rules that both kinds of passes share."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.device.emulator.rules import BrokenRule
from tests.device.emulated_compute import PICTURE, WEIGHTS, ComputePass, X, python_library

TOTAL = float(WEIGHTS.sum())

pytestmark = pytest.mark.usefixtures("python_library")
assert python_library, "the fixture is used by its name"


@pytest.fixture
def run():
    return ComputePass().prepared()


def fails(rule: str):
    return pytest.raises(BrokenRule, match=f"^{rule}: ")


def test_a_right_pass_breaks_no_rule(run):
    assert run.encode().commit().wait()
    np.testing.assert_array_equal(run.read(), -(X + TOTAL))
    assert run.referee.broken == []


def test_the_function_constant_chooses_the_path(run):
    run.state, _ = run.pipeline(constants=run.constants(b"\0"))
    assert run.encode().commit().wait()
    np.testing.assert_array_equal(run.read(), X + TOTAL)


def test_nothing_is_done_before_the_wait(run):
    run.encode().commit()
    assert np.isnan(run.y.data.view(np.float32)).all()
    with fails("wait-first"):
        run.read()


def test_reflection_shows_the_parameters(run):
    rows = [(item.name(), item.type(), item.index()) for item in run.state.reflection().bindings()]
    assert rows == [("weights", 0, 0), ("x", 0, 1), ("y", 0, 2), ("w0", 37, 3), ("tile", 1, 0)]
    assert run.pipeline(reflection=0)[0].reflection() is None


def test_a_function_that_the_source_lacks(run):
    state, error = run.pipeline("net_absent")
    assert state is None
    assert error.localizedDescription().startswith("function-name: ")
    assert "net_absent" not in run.library()[0].functionNames()


@pytest.mark.parametrize("what", ["weights", "x", "y"])
def test_all_buffers_are_resident(what, run):
    run.queue.removeResidencySet_(run.set)
    others = [getattr(run, name) for name in ("weights", "x", "y") if name != what]
    run.set = run.residency(*others)
    run.queue.addResidencySet_(run.set)
    run.encode().commit()
    with fails("resident"):
        run.wait()


@pytest.mark.parametrize("what", ["weights", "x", "y", "w0", "arguments", "state", "set"])
def test_what_a_command_buffer_uses_must_live(what, run):
    run.encode().commit()
    delattr(run, what)
    with fails("kept-alive"):
        run.wait()


@pytest.mark.parametrize("index", range(4))
def test_a_slot_that_is_left_empty(index, run):
    run.arguments = run.filled_table(index)
    with fails("slots-filled"):
        run.encode()


def test_a_table_that_is_too_short(run):
    run.arguments = run.table(3)
    for index, buffer in enumerate((run.weights, run.x, run.y)):
        run.arguments.setAddress_atIndex_(buffer.gpuAddress(), index)
    with fails("table-size"):
        run.encode()


def test_a_dispatch_without_a_table(run):
    encoder = run.encoder()
    encoder.setComputePipelineState_(run.state)
    encoder.setThreadgroupMemoryLength_atIndex_(256, 0)
    with fails("table-set"):
        encoder.dispatchThreadgroups_threadsPerThreadgroup_(run.size(1), run.size(32))


def test_a_dispatch_without_a_pipeline(run):
    encoder = run.encoder()
    with fails("pipeline-set"):
        encoder.dispatchThreadgroups_threadsPerThreadgroup_(run.size(1), run.size(32))


def test_an_encoder_that_has_not_ended(run):
    encoder = run.encoder()
    run.dispatch(encoder)
    with fails("encoder-ended"):
        run.commands.endCommandBuffer()
    with fails("one-encoder"):
        run.commands.machineLearningCommandEncoder()


def test_a_command_after_the_end(run):
    encoder = run.encoder()
    encoder.endEncoding()
    with fails("encoder-ended"):
        run.dispatch(encoder)


def test_two_dispatches_that_write_the_same_need_a_barrier(run):
    encoder = run.encoder()
    run.dispatch(encoder)
    run.dispatch(encoder)
    encoder.endEncoding()
    run.commands.endCommandBuffer()
    with fails("barrier-between"):
        run.commit()


def test_a_barrier_between_two_dispatches(run):
    encoder, stage = run.encoder(), run.metal.MTLStageDispatch
    run.dispatch(encoder)
    encoder.barrierAfterEncoderStages_beforeEncoderStages_visibilityOptions_(stage, stage, 1)
    run.dispatch(encoder)
    encoder.endEncoding()
    run.commands.endCommandBuffer()
    assert run.commit().wait()
    assert run.referee.broken == []


def test_a_barrier_of_another_stage(run):
    encoder, stage = run.encoder(), run.metal.MTLStageMachineLearning
    with fails("barrier-stage"):
        encoder.barrierAfterEncoderStages_beforeEncoderStages_visibilityOptions_(stage, stage, 1)


def test_a_pass_that_samples_a_texture():
    run = ComputePass().prepared_picture()
    assert run.encode().commit().wait()
    np.testing.assert_array_equal(run.read(), -(X + TOTAL + float(PICTURE.sum())))
    assert run.referee.broken == []


def test_rows_of_a_texture_may_be_apart():
    rows = np.zeros((2, 20), np.uint8)
    rows[:, :12] = PICTURE.reshape(2, 12)
    assert (ComputePass().texture(rows.tobytes(), row=20).data == PICTURE).all()


@pytest.mark.parametrize("what", ["picture", "sampling"])
def test_what_is_sampled_must_live(what):
    run = ComputePass().prepared_picture().encode().commit()
    delattr(run, what)
    with fails("kept-alive"):
        run.wait()


def test_a_texture_is_resident():
    run = ComputePass().prepared_picture()
    run.queue.removeResidencySet_(run.set)
    run.set = run.residency(run.weights, run.x, run.y)
    run.queue.addResidencySet_(run.set)
    run.encode().commit()
    with fails("resident"):
        run.wait()


def test_a_table_without_the_texture():
    run = ComputePass().prepared_picture()
    run.arguments = run.picture_table(textures=0)
    with fails("table-size"):
        run.encode()


def test_a_source_without_a_stand_in():
    run = ComputePass()
    run.device.world.stand_in = None
    library, error = run.library()
    assert library is None
    assert "stand-in" in error.localizedDescription()
