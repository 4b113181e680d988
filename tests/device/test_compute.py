"""Runs of compute functions on the emulator, with a function of Python in place of a library."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from metal4conv.device import compute, compute_resources
from metal4conv.device.compute import run_compute
from metal4conv.device.compute_protocol import (
    COMPUTE_STEPS,
    ArgumentPlan,
    BufferPlan,
    ComputeCase,
    ComputeRequest,
    ConstantPlan,
    DispatchPlan,
    SamplerPlan,
    TexturePlan,
    ViewPlan,
    read_compute_request,
    write_compute_request,
)
from metal4conv.device.emulator import compute as emulated
from metal4conv.device.emulator import open_api
from metal4conv.device.failures import RunFailed
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import read_records
from tests.device.emulated_compute import (
    PICTURE,
    SOURCE,
    STAND_IN,
    WEIGHTS,
    X,
    python_function,
    python_library,
)

TOTAL = float(WEIGHTS.sum())
MATMUL = (ConstantPlan("net_use_matmul2d", 0, True),)
PLAIN = (ConstantPlan("net_use_matmul2d", 0, False),)

DISPATCH = DispatchPlan(
    "net_compute",
    (
        ArgumentPlan("buffer", 0, "weights"),
        ArgumentPlan("buffer", 1, "x"),
        ArgumentPlan("buffer", 2, "y"),
        ArgumentPlan("tensor", 3, "w0"),
        ArgumentPlan("threadgroup", 0, byte_length=256),
    ),
    (32, 1, 1),
    (2, 1, 1),
    simdgroups=True,
)
VIEW = ViewPlan("w0", "weights", 0, 16, (4, 2), (1, 4), 3)
CASE = ComputeCase(
    "case0",
    (DISPATCH,),
    (
        BufferPlan("weights", "input", WEIGHTS.nbytes),
        BufferPlan("x", "input", X.nbytes),
        BufferPlan("y", "output", X.nbytes),
    ),
    (VIEW,),
    MATMUL,
    PLAIN,
)
INPUTS = {"weights": WEIGHTS, "x": X}

pytestmark = pytest.mark.usefixtures("python_library")
assert python_library, "the fixture is used by its name"


@pytest.fixture
def run(tmp_path):
    """Runs cases in this process; gives back the records."""

    def go(*cases: ComputeCase, inputs=None, stand_in=STAND_IN, **changes):
        (tmp_path / "net.metal").write_text(SOURCE, "utf-8")
        asked = ComputeRequest(
            "emulator", str(tmp_path / "net.metal"), cases or (CASE,), stand_in=stand_in, **changes
        )
        write_compute_request(tmp_path, asked)
        read = read_compute_request(tmp_path)
        assert read == asked
        for case in read.cases:
            save_file(
                INPUTS if inputs is None else inputs, tmp_path / f"{case.label}.inputs.safetensors"
            )
        api = open_api(read.misbehave, stand_in=read.stand_in)
        run_compute(api, read, tmp_path, Journal(tmp_path, COMPUTE_STEPS))
        return read_records(tmp_path)

    return go


def outputs(folder, label="case0"):
    return load_file(folder / f"{label}.outputs.safetensors")


def notes(records) -> str:
    return "\n".join(record.detail for record in records if record.detail)


def failing(run, *cases, **changes) -> RunFailed:
    with pytest.raises(RunFailed) as caught:
        run(*cases, **changes)
    return caught.value


def test_all_steps_in_order(run, tmp_path):
    records = run()
    assert [record.name for record in records if record.state == "done"] == list(COMPUTE_STEPS)
    np.testing.assert_array_equal(outputs(tmp_path)["y"], -(X + TOTAL))
    assert notes(records) == ""
    assert len(records[-1].data["gpu_seconds"]) == 1
    assert records[-1].data["fell_back"] is None


PICTURE_DISPATCH = replace(
    DISPATCH,
    function="net_picture",
    arguments=(
        *DISPATCH.arguments[:3],
        ArgumentPlan("texture", 0, "picture"),
        ArgumentPlan("sampler", 0),
    ),
)


def picture_case(folder, length: int = 24, **changes) -> ComputeCase:
    file = folder / "net.latents"
    file.write_bytes(b"????" + PICTURE[:length].tobytes())
    texture = TexturePlan("picture", 70, 3, 2, 12, str(file), 4)
    given = {"textures": (texture,), "sampler": SamplerPlan(1, 2), **changes}
    return replace(CASE, dispatches=(PICTURE_DISPATCH,), **given)


def test_textures_come_from_a_file(run, tmp_path):
    run(picture_case(tmp_path))
    np.testing.assert_array_equal(outputs(tmp_path)["y"], -(X + TOTAL + float(PICTURE.sum())))


def test_a_texture_that_is_cut_off(run, tmp_path):
    failure = failing(run, picture_case(tmp_path, length=20))
    assert "expects 24 bytes at 4 of" in failure.message
    assert failure.message.endswith("there are 20")


def test_a_sampler_that_is_missing(run, tmp_path):
    failure = failing(run, picture_case(tmp_path, sampler=None))
    assert 'is bound to the sampler "" at index 0: there are none' in failure.message


def test_weights_come_from_a_file(run, tmp_path):
    (tmp_path / "net.weights").write_bytes(WEIGHTS.tobytes())
    weights = BufferPlan("weights", "input", WEIGHTS.nbytes, str(tmp_path / "net.weights"))
    run(replace(CASE, buffers=(weights, *CASE.buffers[1:])), inputs={"x": X})
    np.testing.assert_array_equal(outputs(tmp_path)["y"], -(X + TOTAL))


def test_both_paths_of_a_function_constant(run, tmp_path):
    run(CASE, replace(CASE, label="case1", constants=PLAIN))
    np.testing.assert_array_equal(outputs(tmp_path)["y"], -(X + TOTAL))
    np.testing.assert_array_equal(outputs(tmp_path, "case1")["y"], X + TOTAL)


def test_pipelines_are_compiled_once(run, monkeypatch):
    compiled = []
    compile_pipeline = compute.compile_pipeline

    def counted(session, dispatch, constants):
        compiled.append(constants)
        return compile_pipeline(session, dispatch, constants)

    monkeypatch.setattr(compute, "compile_pipeline", counted)
    run(CASE, replace(CASE, label="case1"), replace(CASE, label="case2", constants=PLAIN))
    assert compiled == [MATMUL, PLAIN]


def test_falls_back_to_the_other_path_and_says_so(run, tmp_path):
    records = run(misbehave="no-constants")
    np.testing.assert_array_equal(outputs(tmp_path)["y"], X + TOTAL)
    assert "Compilation failed" in records[-1].data["fell_back"]
    assert notes(records).endswith("case0 runs with net_use_matmul2d = false instead")


def test_nothing_to_fall_back_to(run):
    failure = failing(run, replace(CASE, fallback=None), misbehave="no-constants")
    assert failure.kind == "error"
    assert "newComputePipelineStateWithDescriptor:compilerTaskOptions:error:" in failure.message


def test_dispatches_that_build_on_one_another(run, tmp_path):
    first = replace(
        DISPATCH,
        function="net_other",
        arguments=(*DISPATCH.arguments[:2], ArgumentPlan("buffer", 2, "between")),
        simdgroups=False,
    )
    second = replace(
        first,
        arguments=(
            DISPATCH.arguments[0],
            ArgumentPlan("buffer", 1, "between"),
            ArgumentPlan("buffer", 2, "y"),
        ),
    )
    buffers = (*CASE.buffers, BufferPlan("between", "scratch", X.nbytes))
    run(replace(CASE, dispatches=(first, second), buffers=buffers, constants=PLAIN))
    np.testing.assert_array_equal(outputs(tmp_path)["y"], X + 2 * TOTAL)


def test_what_is_left_unwritten_is_nan_and_told(run, tmp_path):
    records = run(replace(CASE, dispatches=(replace(DISPATCH, threadgroups=(1, 1, 1)),)))
    assert np.isnan(outputs(tmp_path)["y"][32:]).all()
    assert notes(records).startswith('output "y" has 32 NaN among 64 values')


def test_writing_beyond_the_end_is_found(run, monkeypatch):
    def too_far(stand_in, function, bound, *rest):
        python_function(stand_in, function, bound, *rest)
        bound[2].resource.data[X.nbytes] = 0

    monkeypatch.setattr(emulated, "run_function", too_far)
    failure = failing(run)
    assert failure.message == 'the GPU wrote beyond the 256 bytes of output "y"'


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"threads_per_threadgroup": (2048, 1, 1)}, "2048 threads a threadgroup"),
        ({"threads_per_threadgroup": (48, 1, 1)}, "simdgroups of 32 threads"),
        ({"threadgroups": (0, 1, 1)}, "(0, 1, 1) threadgroups"),
        ({"function": "net_compte"}, 'did you mean "net_compute"?'),
        ({"arguments": DISPATCH.arguments[:-1]}, 'the threadgroup "tile" at index 0'),
        ({"arguments": DISPATCH.arguments[1:]}, 'the buffer "weights" at index 0'),
        (
            {"arguments": (*DISPATCH.arguments[:-1], ArgumentPlan("threadgroup", 0, "", 100))},
            "multiple of 16",
        ),
        (
            {"arguments": (*DISPATCH.arguments[:-1], ArgumentPlan("threadgroup", 0, "", 65536))},
            "needs 65536 bytes of threadgroup memory, this GPU has 32768",
        ),
        (
            {"arguments": (*DISPATCH.arguments, ArgumentPlan("buffer", 31, "x"))},
            "argument table has is 30",
        ),
        ({"arguments": (*DISPATCH.arguments, ArgumentPlan("buffer", 1, "x"))}, "share one of"),
        (
            {"arguments": (*DISPATCH.arguments, ArgumentPlan("buffer", 9, "z"))},
            'bound to the buffer "z" at index 9',
        ),
    ],
)
def test_a_dispatch_that_does_not_fit_is_refused_before_metal_sees_it(run, change, text):
    failure = failing(run, replace(CASE, dispatches=(replace(DISPATCH, **change),), fallback=None))
    assert text in failure.message


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"buffer": "wights"}, 'there is no buffer "wights"'),
        ({"data_type": 53}, "53 is no known MTLTensorDataType"),
        ({"strides": (2, 8)}, "the first of them 1"),
        ({"strides": (1, 3)}, "rows overlap"),
        ({"offset": 1}, "offset 1 is no multiple of 2"),
        ({"offset": 2}, 'ends at byte 18 of the buffer "weights", which has 16'),
    ],
)
def test_a_tensor_that_breaks_a_rule_is_refused(run, change, text):
    failure = failing(run, replace(CASE, tensors=(replace(VIEW, **change),)))
    assert (failure.kind, text in failure.message) == ("refused", True)


def test_inputs_of_another_length_are_refused(run):
    failure = failing(run, inputs={"weights": WEIGHTS, "x": X[:-1]})
    assert failure.message == 'the buffer "x" expects 256 bytes, case0\'s array has 252'
    failure = failing(run, inputs={"weights": WEIGHTS, "xs": X})
    assert 'case0 has no "x": did you mean "xs"?' in failure.message


@pytest.mark.parametrize(
    ("misbehave", "kind", "text"),
    [
        ("no-device", "missing", "no GPU"),
        ("no-metal4", "missing", "does not support Metal 4"),
        ("old-system", "missing", "MTL4ComputePipelineDescriptor"),
        ("broken-extents", "error", "the bridge to Metal is wrong"),
        ("compile-error", "error", "program_source:1:1: error"),
        ("feedback-error", "error", "the GPU reports: Internal Error"),
        ("timeout", "timeout", "did not finish within 300 ms"),
    ],
)
def test_what_goes_wrong_is_told(run, misbehave, kind, text):
    failure = failing(run, misbehave=misbehave, timeout_ms=300)
    assert (failure.kind, text in failure.message) == (kind, True)
    hint = {"timeout": "barrier which not all threads reach", "compile-error": "own compiler"}
    assert hint.get(misbehave, "") in (failure.hint or "")


def test_without_reflection_nothing_is_refused(run, tmp_path):
    records = run(misbehave="nil-reflection")
    np.testing.assert_array_equal(outputs(tmp_path)["y"], -(X + TOTAL))
    assert 'function "net_compute" shows no reflection' in notes(records)


@pytest.mark.parametrize(
    ("misbehave", "value"), [("constant-output", 0.5), ("nan-output", float("nan"))]
)
def test_wrong_outputs_are_not_the_runner_s_to_judge(run, tmp_path, misbehave, value):
    run(misbehave=misbehave)
    np.testing.assert_array_equal(outputs(tmp_path)["y"], np.full_like(X, value))


def test_no_feedback_is_told_once(run):
    records = run(CASE, replace(CASE, label="case1"), misbehave="no-feedback")
    assert notes(records).count("no commit feedback with GPU times came") == 1


def test_a_bridge_that_shows_too_little_memory(run, monkeypatch):
    monkeypatch.setattr(compute_resources, "GUARD_BYTES", 512)
    contents = emulated.Buffer.contents

    def short(buffer):
        shown = contents(buffer)
        shown.data = shown.data[:8]
        return shown

    monkeypatch.setattr(emulated.Buffer, "contents", short)
    failure = failing(run)
    assert failure.message == 'the bridge shows 8 bytes of the buffer "weights", not 16'


def test_the_request_is_json(run, tmp_path):
    run()
    document = json.loads((tmp_path / "compute.json").read_text("utf-8"))
    assert document["cases"][0]["dispatches"][0]["function"] == "net_compute"
