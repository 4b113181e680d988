from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.control_flow import (
    cond,
    list_gather,
    list_length,
    list_read,
    list_scatter,
    list_write,
    make_list,
    while_loop,
)
from metal4conv.execute.interpreter import load
from tests.mil import foreign


def test_cond_runs_one_branch_only() -> None:
    def refuse() -> tuple[Any, ...]:
        raise AssertionError("the branch that was not chosen ran")

    for pred in (torch.tensor(True), torch.tensor([True]), np.array(True, dtype=object)):
        assert cond(pred, (lambda: (1, 2), refuse)) == (1, 2)
    assert cond(torch.tensor(False), (refuse, lambda: (3,))) == (3,)


def test_while_loop_that_never_runs_gives_its_variables() -> None:
    def refuse(*state: Any) -> tuple[Any, ...]:
        raise AssertionError("the body ran")

    start = [torch.tensor(1), torch.tensor([2.0])]
    assert while_loop(start, (lambda *state: (torch.tensor(False),), refuse)) == tuple(start)


def test_while_loop_counts() -> None:
    def below(n: Any, _: Any) -> tuple[Any, ...]:
        return (n < 5,)

    def body(n: Any, total: Any) -> tuple[Any, ...]:
        return n + 1, total + n

    n, total = while_loop([torch.tensor(0), torch.tensor(0)], (below, body))
    assert (n.item(), total.item()) == (5, 0 + 1 + 2 + 3 + 4)


def test_lists() -> None:
    row = torch.tensor([1.0, 2.0])
    ls = make_list((2,), init_length=2)
    assert list_length(ls).item() == 2
    assert list_length(ls).dtype == torch.int32
    longer = list_write(ls, 3, row)
    assert (list_length(ls).item(), list_length(longer).item()) == (2, 4)  # the old one stays
    assert list_read(longer, 3).tolist() == [1, 2]
    full = list_scatter(longer, (2, 0, 1), torch.stack([row + 1, row + 2, row + 3]))
    assert list_gather(full, (0, 2, 3, 0)).tolist() == [[3, 4], [2, 3], [1, 2], [3, 4]]
    assert list_gather(full, ()).shape == (0, 2)


def test_elements_of_unknown_shape_that_were_never_written() -> None:
    ls = make_list(["rows"], init_length=2)
    for index in (1, 7):
        with pytest.raises(UnsupportedModel, match=f"element {index} of a list of 2 was never"):
            list_read(ls, index)
        with pytest.raises(UnsupportedModel, match=f"element {index} of a list of 2 was never"):
            list_gather(ls, (index,))
    with pytest.raises(UnsupportedModel, match="unknown shape"):
        list_gather(ls, ())


def test_scatter_of_a_list_needs_an_element_an_index() -> None:
    with pytest.raises(ValueError, match="zip"):
        list_scatter([None, None], (0, 1), torch.zeros(3, 2))


def test_a_program_with_branches_loops_and_lists(tmp_path: Path) -> None:
    """Collatz' sequence from a number, in a list that grows, its length and its largest element."""
    _, mb, _ = foreign.toolkit()

    def program(start: Any) -> Any:
        def is_above_one(n: Any, count: Any, ls: Any) -> Any:
            return mb.greater(x=n, y=1)

        def step(n: Any, count: Any, ls: Any) -> Any:
            is_even = mb.equal(x=mb.mod(x=n, y=2), y=0)
            following = mb.cond(
                pred=is_even,
                _true_fn=lambda: mb.floor_div(x=n, y=2),
                _false_fn=lambda: mb.add(x=mb.mul(x=n, y=3), y=1),
            )
            value = mb.expand_dims(x=following, axes=[0])
            return following, mb.add(x=count, y=1), mb.list_write(ls=ls, index=count, value=value)

        ls = mb.make_list(init_length=1, dynamic_length=True, elem_shape=(1,), dtype="int32")
        first = mb.squeeze(x=start, axes=[0])
        ls = mb.list_write(ls=ls, index=0, value=start)
        _, count, ls = mb.while_loop(_cond=is_above_one, _body=step, loop_vars=(first, 1, ls))
        every = mb.list_gather(ls=ls, indices=mb.range_1d(start=0, end=count, step=1))
        length = mb.expand_dims(x=mb.list_length(ls=ls), axes=[0], name="length")
        return length, mb.reduce_max(x=every, axes=[0], name="largest"), every

    path = foreign.save(tmp_path, program, [foreign.tensor((1,), "int32")], "iOS16")
    executor = load(path)
    for start in (1, 6, 7, 27):
        expected = [start]
        while expected[-1] > 1:
            n = expected[-1]
            expected.append(n // 2 if n % 2 == 0 else 3 * n + 1)
        found = executor.predict({"start": np.array([start], np.int32)})
        (every,) = (found[name] for name in found if name not in ("length", "largest"))
        assert every.dtype == np.int32
        assert every.reshape(-1).tolist() == expected
        assert found["length"].tolist() == [len(expected)]
        assert found["largest"].tolist() == [max(expected)]
