"""What is cast to float16: the rules beside those of coremltools' own pass."""

from __future__ import annotations

from metal4conv.frontends.toolkit import coremltools_with
from metal4conv.precision.eligible import ALWAYS_WIDE, NEVER, WIDE_PARAMETERS


def test_as_coremltools_has_it() -> None:
    coremltools_with("none")
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    assert NEVER - {"const"} == FP16ComputePrecision._UNSUPPORTED_FP16_OPS
    assert {
        **dict.fromkeys(FP16ComputePrecision._ACTIVATION_ALPHA_OPS, ("alpha",)),
        **dict.fromkeys(FP16ComputePrecision._ACTIVATION_ALPHA_BETA_OPS, ("alpha", "beta")),
        **dict.fromkeys(FP16ComputePrecision._ELEMENTWISE_UNARY_EPSILON_OPS, ("epsilon",)),
    } == WIDE_PARAMETERS


def test_parameters_without_a_float16_form() -> None:
    """Those of all operations of all opsets whose types hold float32, but not float16."""
    coremltools_with("none")
    from coremltools.converters.mil.mil import types
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    found: dict[str, set[str]] = {}
    for name, versions in SSAOpRegistry.core_ops.items():
        for operation in versions.values():
            for parameter, kind in operation.input_spec.input_types.items():
                domain = getattr(kind, "type_domain", None) or ()
                if types.fp32 in domain and types.fp16 not in domain:
                    found.setdefault(name, set()).add(parameter)
    assert found == {name: set(parameters) for name, parameters in ALWAYS_WIDE.items()}
