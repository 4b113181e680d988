import numpy as np
import pytest

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.frontends.source import SourceInput
from metal4conv.mil.program import Dimension, TensorType
from metal4conv.verify.given import cases_from_npz

INPUTS = (
    SourceInput("x", TensorType("float32", (1, "h"))),
    SourceInput("ids", TensorType("int64", ("h",))),
)
SIZES = {"h": Dimension(2, 8, 4, step=2)}
GOOD = {"x": np.zeros((1, 4), np.float32), "ids": np.arange(4)}


def cases(tmp_path, arrays, **options):
    path = tmp_path / "inputs.npz"
    np.savez(path, **arrays)
    return cases_from_npz(path, INPUTS, SIZES, **options)


def test_one_case(tmp_path):
    drawn = cases(tmp_path, GOOD)
    assert drawn.cases[0].dimensions == {"h": 4}
    assert drawn.findings == ()


def test_several_cases(tmp_path):
    more = {"x.1": np.ones((1, 2)), "ids.1": np.arange(2)}
    drawn = cases(tmp_path, GOOD | more)
    assert [case.dimensions["h"] for case in drawn.cases] == [4, 2]
    assert drawn.cases[1].inputs["x"].dtype == np.float32


def test_values_are_rounded_to_the_package_and_said_so(tmp_path):
    arrays = GOOD | {"x": np.full((1, 4), 0.1, np.float32)}
    drawn = cases(tmp_path, arrays, input_dtypes={"x": "float16"})
    assert drawn.cases[0].inputs["x"][0, 0] == np.float32(np.float16(0.1))
    assert drawn.findings[0].code == "golden-input-rounded"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xs": np.zeros(1)}, 'an array "xs"'),
        ({"x.1": np.zeros((1, 4))}, 'no array "ids.1"'),
        ({"x": np.zeros((4,))}, r"expected shape \(1, h\), got \(4,\)"),
        ({"x": np.zeros((1, 4), bool)}, "expected float32, got bool"),
        ({"ids": np.zeros(4)}, "expected int64, got float64"),
        ({"ids": np.zeros(2, int)}, "h=2, another input has h=4"),
        ({"x": np.zeros((1, 3)), "ids": np.zeros(3, int)}, "h=3, expected one of 2..8/2@4"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        cases(tmp_path, GOOD | changes)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        cases_from_npz(tmp_path / "none.npz", INPUTS)
    with pytest.raises(UsageError, match="no arrays"):
        cases(tmp_path, {})
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UsageError, match="single array"):
        cases_from_npz(tmp_path / "one.npy", INPUTS)
    for content in (b"", b"not an archive", b"PK\x03\x04broken"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DamagedFile):
            cases_from_npz(tmp_path / "bad.npz", INPUTS)
    np.savez(tmp_path / "objects.npz", x=np.array([{}], object))
    with pytest.raises(DamagedFile):
        cases_from_npz(tmp_path / "objects.npz", INPUTS)
