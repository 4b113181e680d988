"""What is cast to float16: the rules beside those of coremltools' own pass."""

from __future__ import annotations

import pytest

from metal4conv.frontends.toolkit import coremltools_with
from metal4conv.mil.program import Operation
from metal4conv.precision.eligible import NEVER, WIDE_PARAMETERS, becomes_float16


def test_as_coremltools_has_it() -> None:
    coremltools_with("none")
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    assert NEVER - {"const"} == FP16ComputePrecision._UNSUPPORTED_FP16_OPS
    assert {
        **dict.fromkeys(FP16ComputePrecision._ACTIVATION_ALPHA_OPS, ("alpha",)),
        **dict.fromkeys(FP16ComputePrecision._ACTIVATION_ALPHA_BETA_OPS, ("alpha", "beta")),
        **dict.fromkeys(FP16ComputePrecision._ELEMENTWISE_UNARY_EPSILON_OPS, ("epsilon",)),
    } == WIDE_PARAMETERS


@pytest.mark.parametrize("opset", [15, 16, 17, 18])
def test_parameters_without_a_float16_form(opset: int) -> None:
    """Those of all operations whose types hold float32, but not float16."""
    coremltools_with("none")
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    for name, versions in SSAOpRegistry.core_ops.items():
        fitting = [version for version in versions if int(version) + 9 <= opset]
        if not fitting:
            continue
        definition = versions[max(fitting)]
        operation = Operation(name, "y", {}, ())
        for parameter, kind in definition.input_spec.input_types.items():
            identifier = getattr(kind, "type_domain_id", None)
            domain = definition.type_domains.get(identifier) or getattr(kind, "type_domain", ())
            if types.fp32 in domain and types.fp16 not in domain:
                assert not becomes_float16(parameter, operation, opset), (name, parameter)
            elif types.fp32 in domain and parameter not in WIDE_PARAMETERS.get(name, ()):
                assert becomes_float16(parameter, operation, opset), (name, parameter)
