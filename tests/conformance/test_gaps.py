"""Proofs for the gaps: what coremltools' tests expect, worked out by hand, beside what is right."""

import itertools

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.interpreter import load
from tests.conformance import rounding
from tests.conformance.gaps import GAPS
from tests.conformance.plugin import hash_of, names_of
from tests.execute.value_inference import assert_close, computed, coremltools_builder, random_array


def test_the_crop_that_was_typed_by_hand():
    """The picture is 1 + x + 4 y; the sample lies at y = 0.5 · 3 and x = 0.3 · 3."""
    picture = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    box = np.array([0, 0.5, 1.8, 1.0, 0.3], np.float32).reshape(1, 1, 5, 1, 1)
    found = computed(
        "crop_resize",
        version=16,
        x=picture,
        roi=box,
        target_width=2,
        target_height=2,
        normalized_coordinates=True,
        box_coordinate_mode="CORNERS_HEIGHT_FIRST",
        sampling_mode="ALIGN_CORNERS",
    )
    exact = 1 + 0.3 * 3 + 4 * 0.5 * 3
    assert found[0, 0, 0, 0, 1] == pytest.approx(exact, abs=1e-5)
    assert abs(exact - 7.899) > 1e-4 + 1e-5 * 7.899


def test_the_crop_outside_the_picture():
    """Samples of the whole picture are expected; the box's lie at 5.25 and 3.75 of 0 to 3."""
    first, last, size = 2 * 3, 1 * 3, 2
    step = (last - first) / size
    places = [first + step * (index + 0.5) for index in range(size)]
    assert places == [5.25, 3.75]
    whole = [4 / size * (index + 0.5) - 0.5 for index in range(size)]
    assert [1 + x + 4 * y for y, x in itertools.product(whole, whole)] == [3.5, 5.5, 11.5, 13.5]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_coordinates_that_float16_does_not_hold(dtype):
    """Row 1 is 33 + 11 x; the place reflects into 0 to 1, there and back in 2."""
    place = float(dtype(-3.7))
    inside = 2 - abs(place) % 2
    found = computed(
        "resample",
        x=np.array([[[[11, 22], [33, 44]]]], np.float32),
        coordinates=np.full((1, 1, 1, 2), [place, -1], np.float32),
        sampling_mode="bilinear",
        padding_mode="reflection",
        padding_value=-1.0,
        coordinates_mode="normalized_zero_to_one",
        align_corners=True,
    )
    assert found.item() == pytest.approx(33 + 11 * inside, abs=1e-4)
    is_expected = abs(33 + 11 * inside - 36.3) <= 1e-4 + 1e-5 * 36.3
    assert is_expected == (dtype is np.float32)


def test_the_response_of_one_channel():
    """The suite's numbers are those of a window that holds the element alone, for both sizes."""
    x = np.array([[[1, -7], [5, -6], [-3, -5]]], np.float32)
    expected = np.array([[0.99996257, -6.98716545], [4.99531746, -5.99191284]])
    alone = x / (1 + 1e-4 / 2 * x**2) ** 0.75
    np.testing.assert_allclose(alone[0, :2], expected, rtol=1e-6)
    found = computed("local_response_norm", x=x, size=3)
    neighbours = np.array([[1 + 25], [1 + 25 + 9], [25 + 9]])
    assert_close(found[0, :, :1], x[0, :, :1] / (1 + 1e-4 / 3 * neighbours) ** 0.75)


def test_scatter_leaves_unvalidated_indices_open():
    builder, _ = coremltools_builder()
    from coremltools.converters.mil.mil.ops.defs.iOS17.scatter_gather import scatter

    assert hasattr(builder, "scatter")
    assert "undefined" in scatter.__doc__


def test_recurrent_sums_carry_the_rounding_of_float16():
    """Exact arithmetic on rounded numbers gives ours; on unrounded ones it is out of tolerance."""
    x, weight = random_array(1000, 1, 64), random_array(1, 64, seed=1)
    rounded_x, rounded_weight = x.astype(np.float16), weight.astype(np.float16)
    exact = np.tanh((rounded_x.astype(np.float64) * rounded_weight).sum(axis=-1))
    found = computed(
        "rnn",
        x=rounded_x.reshape(1, 1000, 64).astype(np.float32),
        initial_h=np.zeros((1000, 1), np.float32),
        weight_ih=rounded_weight.astype(np.float32),
        weight_hh=np.ones((1, 1), np.float32),
        activation="tanh",
    )[1]
    assert_close(found, exact)
    unrounded = np.tanh((x.astype(np.float64) * weight).sum(axis=-1))
    spacing = np.spacing(np.abs(exact).astype(np.float16))
    assert (np.abs(exact - unrounded) > 4 * spacing).any()


def converted(module, path, given, precision="float32"):
    """The executor of a network that coremltools converts for iOS 17."""
    import torch

    from metal4conv.frontends.toolkit import coremltools_with, quiet, without_bars

    coremltools = coremltools_with("torch")
    with quiet(), without_bars():
        model = coremltools.convert(
            torch.jit.trace(module, tuple(given.values())),
            inputs=[
                coremltools.TensorType(name, array.shape, getattr(np, dtype_of(array)))
                for name, array in given.items()
            ],
            compute_precision=getattr(coremltools.precision, precision.upper()),
            minimum_deployment_target=coremltools.target.iOS17,
            skip_model_load=True,
        )
    model.save(str(path))
    return load(path)


def dtype_of(tensor):
    return "float32" if tensor.is_floating_point() else "int32"


def test_the_initial_state_of_a_packed_sequence(tmp_path):
    """The converted program takes the longest sequence for the number of sequences."""
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    class Packed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(4, 6, batch_first=True)

        def forward(self, x, lengths):
            packed = pack_padded_sequence(x, lengths, batch_first=True)
            return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]

    x, lengths = torch.ones(3, 10, 4), torch.tensor([10, 5, 1], dtype=torch.int32)
    tensors = {"x": x, "lengths": lengths}
    executor = converted(Packed().eval(), tmp_path / "packed.mlpackage", tensors)
    given = {name: item.numpy() for name, item in tensors.items()}
    filled = next(
        array.shape
        for operation, outputs in executor.trace(given)
        for array in outputs.values()
        if operation.type == "fill"
    )
    assert filled == (1, 10, 6)
    with pytest.raises(UnsupportedModel, match=r"lstm.*3.*10"):
        executor.predict(given)


def test_quotients_beyond_float16():
    """The suite draws numbers between 0 and 1."""
    data, indices = np.array([0.5], np.float32), np.zeros(2, np.int32)
    updates = np.array([0.002, 0.003], np.float32)
    single = computed("scatter", data=data, indices=indices, updates=updates, mode="div")
    assert single.item() == pytest.approx(0.5 / (0.002 * 0.003), rel=1e-4)
    assert single.item() > 65504
    half = [data.astype(np.float16), updates.astype(np.float16)]
    found = computed("scatter", data=half[0], indices=indices, updates=half[1], mode="div")
    assert np.isinf(found.item())


def test_indices_that_a_float32_program_leaves_as_they_are(tmp_path):
    import torch

    class Pick(torch.nn.Module):
        def forward(self, x, where):
            return x[torch.arange(1).unsqueeze(1), where]

    x, where = torch.arange(12.0).reshape(1, 4, 3), torch.tensor([[3, 1]], dtype=torch.int32)
    given = {"x": x, "where": where}
    executor = converted(Pick(), tmp_path / "pick.mlpackage", given)
    operations = list(executor.function.block.walk())
    assert [item.type for item in operations].count("gather_nd") == 1
    assert not any(item.type == "cast" for item in operations)
    found = executor.predict({name: item.numpy() for name, item in given.items()})
    np.testing.assert_array_equal(next(iter(found.values())), x.numpy()[:, [3, 1]])


def test_the_negative_index_that_becomes_65535(tmp_path):
    import torch

    class Put(torch.nn.Module):
        def forward(self, x, where, values):
            return x.index_put(tuple(where.t()), values)

    where = torch.tensor([[-2, -1], [-2, 0], [-1, 1]], dtype=torch.int32)
    given = {"x": torch.ones(3, 4), "where": where, "values": torch.tensor([1.0, 5.0, 8.0])}
    arrays = {name: item.numpy() for name, item in given.items()}
    expected = arrays["x"].copy()
    expected[tuple(arrays["where"].T)] = arrays["values"]
    executor = converted(Put(), tmp_path / "single.mlpackage", given)
    np.testing.assert_array_equal(next(iter(executor.predict(arrays).values())), expected)
    executor = converted(Put(), tmp_path / "half.mlpackage", given, "float16")
    arrays |= {name: arrays[name].astype(np.float16) for name in ("x", "values")}
    with pytest.raises(UnsupportedModel, match=r"scatter_nd.*index 65535 is out of range"):
        executor.predict(arrays)
    assert expected[-2, -1] == arrays["x"][-2, -1]


def test_names_hash_the_same_everywhere():
    assert hash_of("a.py::TestA::test_b[1]") == 12932099127865


def test_names_leave_out_addresses_and_differ():
    class Item:
        def __init__(self, nodeid):
            self.nodeid = nodeid

    items = [Item(f"a.py::test_b[op=<function <lambda> at {place}>]") for place in ("0x1f", "0x2e")]
    first = "a.py::test_b[op=<function <lambda>>]"
    assert names_of(items) == [first, f"{first}#2"]


def test_comparisons_are_excused_by_float16_alone():
    """A comparison of a float32 program that is out of tolerance fails, one in float16 is noted."""
    compare = rounding.tolerant(np.testing.assert_allclose)
    given, wanted = np.array([0.6294], np.float32), np.array([0.629623], np.float32)
    with pytest.raises(AssertionError):
        compare(given, wanted, rtol=1e-5, atol=1e-4)
    rounding.halves.append(given)
    compare(given, wanted, rtol=1e-5, atol=1e-4)
    assert len(rounding.excused) == 1
    rounding.halves.clear()
    rounding.excused.clear()


def test_every_gap_says_why():
    for gap in GAPS:
        assert gap.reason.endswith(".")
        assert len(gap.reason) > 40
