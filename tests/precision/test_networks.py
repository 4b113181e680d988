"""Networks that float16 breaks: the plain package misses 50 dB, a few operations mend it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metal4conv.assembly import GoldenOptions
from metal4conv.conversion import build
from metal4conv.frontends.source import (
    LoweringRequest,
    ModelSource,
    open_source,
    parse_options,
)
from metal4conv.precision.tolerance import Wanted
from metal4conv.verify.verification import verify
from tests.precision.networks import NETWORKS

SLOW = ("five_hundred", "long_residuals", "many_factors", "big_sum", "exponentials")
QUICK = [name for name in NETWORKS if name not in SLOW]


def made(source: ModelSource, folder: Path, precision: str) -> Path:
    """The package of a network."""
    wanted = Wanted() if precision == "auto" else None
    request = LoweringRequest(precision=precision)
    golden = GoldenOptions()
    done = build(source, source.name, folder, (), request, golden, print, wanted=wanted)
    return done.package


def check(name: str, folder: Path) -> dict[str, Any]:
    """Converts a network in both ways; gives the document about the mixed package."""
    options = parse_options(NETWORKS[name].inputs, ())
    source = open_source(f"tests.precision.networks:{name}", options)
    plain = verify(made(source, folder / "plain", "float16"), min_psnr=50)
    codes = {finding.code for finding in plain.findings if finding.severity == "failure"}
    assert codes & {"psnr-too-low", "output-not-finite"}
    package = made(source, folder / "mixed", "auto")
    report = verify(package, min_psnr=50)
    assert report.passed
    assert verify(package).passed  # its own tolerance, by the depth of what is float16
    document = json.loads(package.with_name(f"{name}.precision.json").read_text("utf-8"))
    figures = document["figures"]
    assert figures["psnr"] == pytest.approx(report.data["outputs"][0]["psnr"], abs=0.01)
    assert figures["psnr"] >= 50
    assert figures["float32"] == len(document["operations"])
    assert figures["float16"] >= 0.8 * (figures["float16"] + figures["float32"])
    assert figures["runs"] <= 30
    check_reasons(name, document["operations"])
    return document


def check_reasons(name: str, rows: list[dict[str, Any]]) -> None:
    """Each operation has a reason, and one of the culprits has the right one."""
    network = NETWORKS[name]
    assert all(row["reason"] for row in rows)
    named = [row["reason"] for row in rows if row["type"] in network.culprits]
    assert any(word in reason for reason in named for word in network.words), rows


@pytest.mark.parametrize("name", QUICK)
def test_a_few_operations_mend_it(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW[1:])
def test_a_few_operations_mend_these(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.slow
def test_five_hundred_operations(tmp_path: Path) -> None:
    document = check("five_hundred", tmp_path)
    figures = document["figures"]
    assert figures["float16"] + figures["float32"] >= 500
