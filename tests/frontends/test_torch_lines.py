"""Values of a factory's module know the line that makes them, also in functions it calls."""

from __future__ import annotations

from pathlib import Path

from tests.frontends.helpers import source

CODE = """\
import torch


def smooth(x):
    inner = 3.0 - 2.0 * x
    return x * x * inner


class Inner(torch.nn.Module):
    def forward(self, x):
        return torch.tanh(x)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        smoothed = smooth(x)
        return torch.nn.functional.softsign(self.inner(smoothed))


def net():
    return Net(), (torch.rand(4),)
"""
LINES = {"mul": 5, "rsub": 5, "mul_1": 6, "mul_2": 6, "tanh": 11, "abs_1": 21, "div": 21}


def test_lines_of_functions(tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(CODE)
    values = {row.name: row for row in source(f"{file}:net").values()}
    assert {name: values[name].line for name in LINES if name in values} == {
        name: f"net.py:{line}" for name, line in LINES.items() if name in values
    }
    assert {"mul", "mul_2", "tanh"} <= values.keys()
    assert values["mul"].code == "inner = 3.0 - 2.0 * x"
