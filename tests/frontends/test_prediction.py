"""coremltools' own predictions, answered by the executor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import metal4conv
from tests.mil.foreign import tensor, toolkit

# coremltools leaves its temporary folders to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

X = np.array([[1, 2, 3, 4]], np.float32)


@pytest.fixture
def predicting() -> Iterator[Any]:
    """coremltools while it predicts; afterwards it is as it was."""
    coremltools = toolkit()[0]
    models = coremltools.models.model
    before = models._MLModelProxy, models.MLModel.make_state
    metal4conv.enable_predict()
    yield coremltools
    metal4conv.disable_predict()
    assert (models._MLModelProxy, models.MLModel.make_state) == before


def converted(precision: str, body: Any, **states: Any) -> Any:
    """A program as coremltools' MLModel."""
    coremltools, mb, _ = toolkit()
    specs = [tensor((1, 4)), *states.values()]
    target = coremltools.target.iOS18
    program = mb.program(input_specs=specs, opset_version=target)(body)
    return coremltools.convert(
        program,
        convert_to="mlprogram",
        compute_precision=getattr(coremltools.precision, precision),
        minimum_deployment_target=target,
    )


def growth(x: Any) -> Any:
    """e to the power of 3 x, less a half of itself: float16 holds it up to x = 3.7."""
    mb = toolkit()[1]
    y = mb.exp(x=mb.mul(x=x, y=3.0), name="power")
    return mb.sub(x=y, y=mb.mul(x=y, y=0.5), name="y")


def test_a_converted_model_predicts(predicting: Any) -> None:
    found = converted("FLOAT32", growth).predict({"x": X})
    np.testing.assert_allclose(found["y"], np.exp(3 * X) / 2, rtol=1e-5)
    assert found["y"].dtype == np.float32


def test_a_saved_model_predicts(predicting: Any, tmp_path: Path) -> None:
    converted("FLOAT32", growth).save(str(tmp_path / "net.mlpackage"))
    model = predicting.models.MLModel(str(tmp_path / "net.mlpackage"))
    one, other = model.predict([{"x": X}, {"x": 2 * X}])
    np.testing.assert_allclose(one["y"], np.exp(3 * X) / 2, rtol=1e-5)
    np.testing.assert_allclose(other["y"], np.exp(6 * X) / 2, rtol=1e-5)


def test_what_does_not_fit_is_a_runtime_error_with_our_words(predicting: Any) -> None:
    model = converted("FLOAT32", growth)
    with pytest.raises(RuntimeError, match=r'using ML Program: input "x".*size 3, expected 4'):
        model.predict({"x": X[:, :3]})


def test_states_go_from_call_to_call(predicting: Any) -> None:
    _, mb, types = toolkit()

    def count(x: Any, total: Any) -> Any:
        sum = mb.add(x=mb.read_state(input=total), y=mb.cast(x=x, dtype="fp16"))
        return mb.coreml_update_state(state=total, value=sum, name="y")

    total = mb.StateTensorSpec((1, 4), dtype=types.fp16)
    model = converted("FLOAT16", count, total=total)
    state, other = model.make_state(), model.make_state()
    for number in range(1, 4):
        np.testing.assert_array_equal(model.predict({"x": X}, state=state)["y"], number * X)
    np.testing.assert_array_equal(state.read_state("total"), 3 * X)
    np.testing.assert_array_equal(model.predict({"x": X}, state=other)["y"], X)
    state.write_state("total", np.zeros((1, 4), np.float16))
    np.testing.assert_array_equal(model.predict({"x": X}, state=state)["y"], X)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_comparator_finds_the_operation_that_overflows(predicting: Any) -> None:
    from coremltools.models.ml_program.experimental.debugging_utils import MLModelComparator

    comparator = MLModelComparator(converted("FLOAT32", growth), converted("FLOAT16", growth))

    def close(operation: object, reference: Any, target: Any) -> bool:
        return bool(np.allclose(reference, target, rtol=1e-2))

    failing = asyncio.run(comparator.find_failing_ops({"x": X}, compare_outputs=close))
    assert [operation.outputs[0].name for operation in failing] == ["power"]


def test_after_disabling_nothing_predicts() -> None:
    coremltools = toolkit()[0]
    metal4conv.enable_predict()
    metal4conv.enable_predict()
    metal4conv.disable_predict()
    metal4conv.disable_predict()
    model = converted("FLOAT32", growth)
    assert isinstance(model, coremltools.models.MLModel)
    with pytest.raises(Exception, match="only supported on macOS"):
        model.predict({"x": X})


def test_a_model_of_another_kind_says_what_is_run_here(predicting: Any) -> None:
    builder = predicting.models.neural_network.NeuralNetworkBuilder(
        [("x", predicting.models.datatypes.Array(4))],
        [("y", predicting.models.datatypes.Array(4))],
    )
    builder.add_activation("act", "RELU", "x", "y")
    with pytest.warns(RuntimeWarning, match="only these are run here"):
        predicting.models.MLModel(builder.spec)
