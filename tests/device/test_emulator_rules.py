"""Every rule of the emulator, broken once in a pass that is right but for one step."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from metal4conv.device.emulator import open_api
from metal4conv.device.emulator.rules import KNOWN_BY, RULES, BrokenRule, rules_table
from metal4conv.device.reflection import (
    MPS_DATA_TYPES,
    ReflectedFunction,
    read_reflection,
    write_reflection,
)
from tests.device.emulated import Pass, X, broken_by, metal_package
from tests.device.emulated_compute import COMPUTE_BREAKERS, ComputePass

BREAKERS = {}


def breaks(rule, dynamic=False):
    """Registers what breaks a rule; it gets a pass and gives what the breaking selector gave."""

    def register(function):
        assert rule not in BREAKERS
        BREAKERS[rule] = (function, dynamic)
        return function

    return register


@breaks("extents-rank")
def extents_of_17(run):
    return run.extents(*[1] * 17)


@breaks("extents-metadata")
def extents_before_the_registration(run):
    api = open_api(referee=run.referee)
    return api.metal.MTLTensorExtents.alloc().initWithRank_values_(2, [3, 4])


@breaks("positive-dimensions")
def no_rows(run):
    return run.tensor(10, 0)


@breaks("known-type")
def a_bool(run):
    return run.tensor(10, 2, dataType=53)


@breaks("usage-bits")
def an_unknown_use(run):
    return run.tensor(10, 2, usage=12)


@breaks("device-strides")
def strides_of_the_device(run):
    answer = run.tensor(10, 2, strides=(1, 32))
    assert (answer[1].domain(), answer[1].code()) == ("MTLTensorDomain", 2)
    assert "strides should be nil" in answer[1].localizedDescription()
    return answer


@breaks("buffer-strides")
def no_strides_in_a_buffer(run):
    return run.in_buffer(10, 2)


@breaks("stride-count")
def one_stride_of_two(run):
    return run.in_buffer(10, 2, strides=(1,))


@breaks("first-stride")
def a_first_stride_of_2(run):
    return run.in_buffer(10, 2, strides=(2, 32))


@breaks("growing-strides")
def rows_that_overlap(run):
    return run.in_buffer(40, 2, strides=(1, 32))


@breaks("row-alignment")
def tight_rows(run):
    return run.in_buffer(10, 2, strides=(1, 10))


@breaks("outer-strides")
def padded_planes(run):
    return run.in_buffer(10, 2, 3, strides=(1, 32, 96))


@breaks("storage-mode")
def a_shared_tensor_in_a_private_buffer(run):
    return run.in_buffer(10, 2, strides=(1, 32), options=2 << 4)


@breaks("cache-mode")
def a_write_combined_buffer(run):
    return run.in_buffer(10, 2, strides=(1, 32), options=1)


@breaks("hazard-mode")
def a_tracked_tensor(run):
    return run.in_buffer(10, 2, strides=(1, 32), hazardTrackingMode=2)


@breaks("learning-offset")
def a_tensor_behind_another(run):
    return run.in_buffer(10, 2, strides=(1, 32), offset=128)


@breaks("buffer-offset")
def half_an_element(run):
    return run.in_buffer(10, 2, strides=(1, 32), offset=3, usage=1)


@breaks("buffer-length")
def a_short_buffer(run):
    return run.in_buffer(10, 2, strides=(1, 32), length=100)


@breaks("size-strides")
def the_size_without_strides(run):
    return run.device.tensorSizeAndAlignWithDescriptor_(run.tensor_descriptor(10, 2))


@breaks("shared-storage")
def a_private_tensor_from_the_cpu(run):
    return run.write(run.tensor(10, 2, storageMode=2)[0])


@breaks("slice-bounds")
def a_slice_beyond_the_tensor(run):
    return run.write(run.tensor(10, 1)[0])


@breaks("cpu-strides")
def every_second_element(run):
    tensor = run.tensor(10, 2)[0]
    return tensor.replaceSliceOrigin_sliceDimensions_withBytes_strides_(
        run.extents(0, 0), run.extents(10, 2), bytes(400), run.extents(2, 20)
    )


@breaks("cpu-length")
def half_the_bytes(run):
    tensor = run.tensor(10, 2)[0]
    return tensor.replaceSliceOrigin_sliceDimensions_withBytes_strides_(
        run.extents(0, 0), run.extents(10, 2), X.tobytes()[:20], run.extents(1, 10)
    )


@breaks("cpu-writable")
def results_into_bytes(run):
    tensor = run.tensor(10, 2)[0]
    return tensor.getBytes_strides_fromSliceOrigin_sliceDimensions_(
        bytes(40), run.extents(1, 10), run.extents(0, 0), run.extents(10, 2)
    )


@breaks("wait-first")
def reading_before_the_wait(run):
    run.prepared().encode().commit()
    return run.read(run.y)


@breaks("package-path")
def another_ending(run):
    wrong = run.package.rename(run.package.with_suffix(".metal"))
    url = run.api.foundation.NSURL.fileURLWithPath_(str(wrong))
    return run.device.newLibraryWithURL_error_(url, None)


@breaks("package-manifest")
def a_package_for_metal_itself(run):
    manifest = run.package / "manifest.json"
    document = json.loads(manifest.read_text())
    document["mtlpackage"] |= {"pkgtype": "MLLibrary", "version": {"major": 1}}
    manifest.write_text(json.dumps(document))
    url = run.api.foundation.NSURL.fileURLWithPath_(str(run.package))
    answer = run.device.newLibraryWithURL_error_(url, None)
    assert "runs on a Mac" in answer[1].localizedDescription()
    return answer


@breaks("function-name")
def another_function(run):
    assert run.library().reflectionForFunctionWithName_("other") is None
    run.referee.broken.clear()
    return run.pipeline(name="other")


@breaks("function-descriptor")
def no_function(run):
    return run.pipeline(function=None)


@breaks("input-dimensions", dynamic=True)
def open_sizes_that_are_not_given(run):
    answer = run.pipeline()
    assert "Unsupported Ops or shapes for MLEncoder" in answer[1].localizedDescription()
    return answer


@breaks("fixed-dimensions", dynamic=True)
def another_width(run):
    return run.pipeline((11, 2))


@breaks("binding-type")
def bfloat16_inputs(run):
    file = run.package / "library.mpsgraphpackage" / "reflection.fb"
    (function,) = read_reflection(file.read_bytes())
    inputs = (replace(function.inputs[0], mps_data_type=MPS_DATA_TYPES["bfloat16"]),)
    file.write_bytes(write_reflection([ReflectedFunction("main", inputs, function.outputs)]))
    return run.pipeline()


@breaks("compile-alone")
def two_compilations(run):
    run.pipeline()
    compiler = run.kept[-1]
    with compiler.busy:  # as while another thread compiles
        descriptor = run.metal.MTL4MachineLearningPipelineDescriptor.alloc().init()
        return compiler.newMachineLearningPipelineStateWithDescriptor_error_(descriptor, None)


@breaks("reflection-option")
def reflection_that_was_not_asked_for(run):
    return run.pipeline(reflection=0)[0].reflection()


@breaks("binding-description")
def a_printed_binding(run):
    return str(run.library().reflectionForFunctionWithName_("main").bindings()[0])


@breaks("slot-index")
def an_index_beyond_the_table(run):
    return run.table(run.tensor(10, 2)[0], count=0)


@breaks("slot-resource")
def a_tensor_that_is_gone(run):
    identifier = run.tensor(10, 2)[0].gpuResourceID()
    return run.table().setResource_atBufferIndex_(identifier, 0)


@breaks("pipeline-set")
def no_pipeline(run):
    run.prepared().commands.beginCommandBufferWithAllocator_(run.allocator)
    encoder = run.commands.machineLearningCommandEncoder()
    encoder.setArgumentTable_(run.arguments)
    return encoder.dispatchNetworkWithIntermediatesHeap_(run.memory)


@breaks("table-set")
def no_table(run):
    run.prepared().commands.beginCommandBufferWithAllocator_(run.allocator)
    encoder = run.commands.machineLearningCommandEncoder()
    encoder.setPipelineState_(run.state)
    return encoder.dispatchNetworkWithIntermediatesHeap_(run.memory)


@breaks("table-size")
def one_slot_of_two(run):
    run.prepared()
    run.arguments = run.table(run.x, count=1)
    return run.encode()


@breaks("slots-filled")
def an_empty_slot(run):
    run.prepared()
    run.arguments = run.table(run.x)
    return run.encode()


@breaks("bound-type")
def a_float32_tensor(run):
    run.prepared().x = run.tensor(10, 2, dataType=3)[0]
    run.arguments = run.table(run.x, run.y)
    return run.encode()


@breaks("bound-extents")
def a_transposed_tensor(run):
    run.prepared().x = run.tensor(2, 10)[0]
    run.arguments = run.table(run.x, run.y)
    return run.encode()


@breaks("learning-usage")
def a_tensor_for_shaders(run):
    run.prepared().x = run.tensor(10, 2, usage=3)[0]
    run.arguments = run.table(run.x, run.y)
    return run.encode()


@breaks("heap-needed")
def no_heap(run):
    run.prepared().memory = None
    return run.encode()


@breaks("heap-type")
def an_automatic_heap(run):
    run.prepared().memory = run.heap(kind=0)
    return run.encode()


@breaks("heap-size")
def a_small_heap(run):
    run.prepared()
    run.memory = run.heap(size=run.state.intermediatesHeapSize() - 1)
    return run.encode()


@breaks("heap-bytes")
def a_heap_of_nothing(run):
    return run.heap(size=0)


@breaks("barrier-stage")
def a_barrier_for_compute(run):
    run.prepared().commands.beginCommandBufferWithAllocator_(run.allocator)
    encoder = run.commands.machineLearningCommandEncoder()
    return encoder.barrierAfterQueueStages_beforeStages_visibilityOptions_(1 << 27, 1 << 27, 1)


def two_networks(run, barrier):
    """y = x + x and z = y + y in one command buffer."""
    run.prepared().z = run.tensor(10, 2)[0]
    run.arguments2 = run.table(run.y, run.z)
    run.set.addAllocation_(run.z)
    run.set.commit()
    run.commands.beginCommandBufferWithAllocator_(run.allocator)
    for table in (run.arguments, run.arguments2):
        encoder = run.commands.machineLearningCommandEncoder()
        if barrier and table is run.arguments2:
            stage = run.metal.MTLStageMachineLearning
            encoder.barrierAfterQueueStages_beforeStages_visibilityOptions_(stage, stage, 1)
        encoder.setPipelineState_(run.state)
        encoder.setArgumentTable_(table)
        encoder.dispatchNetworkWithIntermediatesHeap_(run.memory)
        encoder.endEncoding()
    run.commands.endCommandBuffer()
    return run.commit()


@breaks("barrier-between")
def two_networks_at_once(run):
    return two_networks(run, barrier=False)


@breaks("resident")
def tensors_that_are_not_resident(run):
    run.prepared().queue.removeResidencySet_(run.set)
    run.set = run.residency(run.memory, run.x)
    run.queue.addResidencySet_(run.set)
    return run.encode().commit().wait()


@breaks("residency-commit")
def residency_that_is_not_committed(run):
    run.prepared().queue.removeResidencySet_(run.set)
    run.set = run.residency(run.memory, run.x, run.y, is_committed=False)
    run.queue.addResidencySet_(run.set)
    return run.encode().commit().wait()


@breaks("residency-count")
def residency_set_33(run):
    queue = run.device.newMTL4CommandQueue()
    run.kept += [run.residency() for _ in range(33)]
    for item in run.kept:
        queue.addResidencySet_(item)


@breaks("begin-first")
def an_encoder_before_the_beginning(run):
    return run.prepared().commands.machineLearningCommandEncoder()


@breaks("one-encoder")
def two_encoders(run):
    run.prepared().commands.beginCommandBufferWithAllocator_(run.allocator)
    run.commands.machineLearningCommandEncoder()
    return run.commands.machineLearningCommandEncoder()


@breaks("encoder-ended")
def an_encoder_that_goes_on(run):
    run.prepared().commands.beginCommandBufferWithAllocator_(run.allocator)
    run.commands.machineLearningCommandEncoder()
    return run.commands.endCommandBuffer()


@breaks("buffer-ended")
def a_buffer_that_goes_on(run):
    run.prepared().commands.beginCommandBufferWithAllocator_(run.allocator)
    return run.commit()


@breaks("commit-count")
def two_of_one(run):
    run.prepared().encode()
    return run.queue.commit_count_([run.commands], 2)


@breaks("allocator-alone")
def two_buffers_from_one_allocator(run):
    run.prepared().commands.beginCommandBufferWithAllocator_(run.allocator)
    return run.device.newCommandBuffer().beginCommandBufferWithAllocator_(run.allocator)


@breaks("allocator-busy")
def a_reset_before_the_wait(run):
    return run.prepared().encode().commit().allocator.reset()


@breaks("kept-alive")
def a_heap_that_is_dropped(run):
    run.prepared().encode().commit()
    del run.memory
    return run.wait()


@breaks("quiet-handler")
def a_handler_that_raises(run):
    run.prepared().encode()
    options = run.metal.MTL4CommitOptions.alloc().init()
    options.addFeedbackHandler_(lambda feedback: {}["missing"])
    run.queue.commit_count_options_([run.commands], 1, options)
    run.queue.signalEvent_value_(run.event, 1)
    return run.wait()


def test_every_rule_has_a_breaker():
    assert sorted([*BREAKERS, *COMPUTE_BREAKERS]) == sorted(RULES)


@pytest.mark.parametrize("rule", COMPUTE_BREAKERS)
def test_a_broken_rule_of_compute_passes_is_named(rule):
    assert broken_by(COMPUTE_BREAKERS[rule], ComputePass()) == rule


@pytest.mark.parametrize("rule", BREAKERS)
def test_a_broken_rule_is_named(rule, tmp_path):
    act, is_dynamic = BREAKERS[rule]
    run = Pass(metal_package(tmp_path, is_dynamic=is_dynamic))
    assert broken_by(act, run) == rule


@pytest.mark.parametrize("what", ["x", "y", "arguments", "state", "allocator", "set"])
def test_what_a_command_buffer_uses_must_live(what, tmp_path):
    run = Pass(metal_package(tmp_path)).prepared().encode().commit()
    delattr(run, what)
    with pytest.raises(BrokenRule, match="kept-alive"):
        run.wait()


def test_rules_say_how_they_are_known():
    for rule in RULES.values():
        assert rule.known_by
        assert set(rule.known_by) <= set(KNOWN_BY)
    assert [row[0] for row in rules_table()] == list(RULES)


@pytest.mark.parametrize("is_dynamic", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "int32"])
def test_a_right_pass_breaks_no_rule(dtype, is_dynamic, tmp_path):
    run = Pass(metal_package(tmp_path, is_dynamic=is_dynamic, dtype=dtype))
    raw = {"float16": 16, "float32": 3, "int32": 29}[dtype]
    rows = 3 if is_dynamic else 2
    x = np.arange(rows * 10, dtype=dtype).reshape(rows, 10)
    run.state, error = run.pipeline((10, rows) if is_dynamic else None)
    assert error is None
    bindings = run.state.reflection().bindings()
    assert [(item.name(), item.index(), item.access()) for item in bindings] == [
        ("x", 0, 0),
        ("y", 1, 2),
    ]
    run.x = run.tensor(10, rows, dataType=raw)[0]
    row = 64 // x.itemsize
    run.y = run.in_buffer(10, rows, dataType=raw, strides=(1, row))[0]
    run.write(run.x, x)
    run.arguments, run.memory = run.table(run.x, run.y), run.heap()
    run.set = run.residency(run.x, run.y.buffer(), run.memory)
    run.queue = run.device.newMTL4CommandQueue()
    run.queue.addResidencySet_(run.set)
    run.allocator, run.commands = run.device.newCommandAllocator(), run.device.newCommandBuffer()
    run.event = run.device.newSharedEvent()
    assert run.encode().commit().wait()
    np.testing.assert_array_equal(run.read(run.y, x), x + x)
    in_memory = run.y.buffer().contents().as_buffer(rows * 64)
    found = np.frombuffer(in_memory, x.dtype).reshape(rows, row)
    np.testing.assert_array_equal(found[:, :10], x + x)
    assert set(found[:, 10:].tobytes()) == {0xAB}  # the padding
    assert run.referee.broken == []


def test_a_barrier_orders_two_networks(tmp_path):
    run = two_networks(Pass(metal_package(tmp_path)), barrier=True)
    assert run.wait()
    np.testing.assert_array_equal(run.read(run.z), 4 * X)
    assert run.referee.broken == []


def test_a_second_run_needs_the_first_to_be_done(tmp_path):
    run = Pass(metal_package(tmp_path)).prepared()
    for number in range(1, 4):
        run.write(run.x, X + number)
        run.encode().commit(number)
        assert run.wait(value=number)
        np.testing.assert_array_equal(run.read(run.y), 2 * (X + number))
        run.allocator.reset()


def test_an_event_that_nothing_signals_times_out(tmp_path):
    run = Pass(metal_package(tmp_path), "timeout").prepared().encode().commit()
    assert not run.wait(timeout=20)
    assert run.event.signaledValue() == 0


def test_fresh_memory_is_no_result(tmp_path):
    run = Pass(metal_package(tmp_path))
    assert set(run.read(run.tensor(10, 2)[0]).tobytes()) == {0xAB}
