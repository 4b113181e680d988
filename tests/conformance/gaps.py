"""Tests of coremltools that fail here, each with its reason; `test_gaps.py` holds the proofs.

A gap that starts to work fails the run until its line goes, except where `always` is false: tests
whose random numbers decide.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """A pattern of test names, as `fnmatch` reads it with round brackets, and why they fail."""

    pattern: str
    reason: str
    always: bool = True


GAPS: tuple[Gap, ...] = (
    Gap(
        "*iOS1?/test_scatter_gather.py::TestScatter::test_ios17_invalid_indices*"
        "validate_indices=False*",
        "An index outside the tensor that nobody validates: the documentation leaves the result "
        "undefined and the test wants any wrong one; here it is an error that names the operation.",
    ),
    Gap(
        "*iOS15/test_image_resizing.py::TestCropResize::test_builder_to_backend_smoke*",
        "The box (2, 2) to (1, 1) in normalized coordinates lies outside the picture, which the "
        "documentation leaves open before pad_value came in iOS 16; the test expects samples of "
        "the whole picture.",
    ),
    Gap(
        "*TestCropResize::test_builder_to_backend_ios1[67](*precision='fp32'*-[pN]*[!1])",
        "The expectation 7.899 was typed by hand; the exact value is 7.9.",
    ),
    Gap(
        "*iOS15/test_image_resizing.py::TestResample::test_builder_to_backend_smoke*"
        "precision='fp32'*",
        "Counts the casts in the converted program, and finds none: no prediction takes part.",
    ),
    Gap(
        "*TestResample::test_builder_to_backend_smoke*precision='fp32'*float16*",
        "The coordinates are float16, and the expectation was computed from the unrounded ones: "
        "-3.7 is not a float16 number.",
    ),
    Gap(
        "*TestNormalizationLocalResponseNorm::test_builder_to_backend_smoke*precision='fp32'*",
        "The expectation counts the element's own channel alone, against the operation's "
        "documentation and against the suite's comparison with torch (rank 3 among others), whose "
        "tolerance of 1e-2 lets both through.",
    ),
    Gap(
        "*TestRNN::test_builder_to_backend_smoke*precision='fp32'*float16*",
        "Inputs, weights and states are float16, the expectation comes from unrounded ones; a sum "
        "of 64 products before tanh carries the difference beyond float16's spacing.",
        always=False,
    ),
    Gap(
        "*TestGRU::test_builder_to_backend_smoke*precision='fp32'*float16*",
        "Inputs, weights and states are float16, the expectation comes from unrounded ones; gates "
        "near 1 carry their rounding into small results.",
        always=False,
    ),
    Gap(
        "*test_torch_ops.py::TestStack::test_stack_dynamic_range_dim*default_dynamic_size=2*",
        "Core ML refuses the program, since `stack` wants equal shapes also for the default sizes; "
        "here it runs when the sizes that are given are equal.",
    ),
    Gap(
        "*test_torch_ops.py::TestNms::test_nms_corner_case_iou_equal_threshold*'fp32'*target=8*",
        "An overlap that equals the threshold: the documentation removes what is greater, Core ML "
        "from iOS 17 on removes the equal one, too, in this one case that the suite has.",
    ),
    Gap(
        "*test_tf2_conversion_api.py::TestTF2FlexibleInput::test_tf2keras_outofbound_range_dim*",
        "Compares the words of Core ML's error; the size is refused here, too, in other words.",
    ),
    Gap(
        "*test_tf2_conversion_api.py::TestTF2FlexibleInput::test_tf2keras_enumerated_shapes*",
        "Compares the words of Core ML's error; the shape is refused here, too, in other words.",
    ),
    Gap(
        "*iOS14/test_scatter_gather.py::TestScatter::test_builder_to_backend_programmatic*'fp16'*"
        "accumulate_mode=div*",
        "Quotients by products of small random numbers, in a program of float16: some of the "
        "expectations, worked out in float32, lie beyond float16's largest number, 65504.",
        always=False,
    ),
    Gap(
        "*test_torch_ops.py::TestGather::test_gather_nd_int16_indices*'fp32'*dynamic=True*",
        "Asks for int16 indices in the converted program also in float32, where coremltools puts "
        "none; the prediction before that agrees.",
    ),
    Gap(
        "*test_torch_ops.py::TestIndexPut::test_index_put_negative_indices_case_2*'fp16'*rank=2*"
        "accumulate=False*minimum_deployment_target=8*",
        "coremltools' conversion casts the index -1 to uint16 before it is wrapped, which makes it "
        "65535: an index outside the tensor, which is an error here. It goes unnoticed where it is "
        "ignored, since what would be written is what stands there.",
    ),
    Gap(
        "*test_torch_ops.py::TestLSTMWithPackedSequence::test_lstm*",
        "coremltools' conversion fills the initial state with as many rows as the first sequence "
        "is long (10) instead of one a sequence (3): an impossible shape, which is an error here.",
    ),
)


def reason_of(name: str) -> Gap | None:
    """The gap that a test's name falls under.

    >>> name = "a/iOS15/test_image_resizing.py::TestCropResize::test_builder_to_backend_smoke[x=1]"
    >>> reason_of(name).reason[:27]
    'The box (2, 2) to (1, 1) in'
    >>> reason_of("a.py::TestA::test_b[x=1]") is None
    True
    """
    escaped = name.replace("[", "(").replace("]", ")")
    found = (gap for gap in GAPS if fnmatch.fnmatchcase(escaped, gap.pattern))
    return next(found, None)
