"""`debug` names the operation that a fault was seeded in, and says nothing of packages without one.

Run with `-s` for the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

import pytest
import torch

from metal4conv.debug.debugging import debug
from metal4conv.verify.golden import golden_path
from tests.debug.cases import NETWORKS, Case
from tests.debug.corpus import CASES
from tests.debug.drawn import drawn_faults
from tests.debug.faults import NothingChanged
from tests.debug.helpers import Answer, Workshop

LEAST_CHANGE = {"float16": 2e-3, "float32": 1e-5}
"""A part of the output's magnitude; what changes it less is no fault."""

SHARE = 0.9
"""The part of the cases in which the operation itself must be named first."""

NEAR = {"right", "part", "neighbour"}
"""Answers that lead to the fault, see `Answer.verdict`."""

DRAWN = 10
"""Drawn faults a network."""

HERE = [name for name, network in NETWORKS.items() if network.origin != "transformers"]
"""Networks that need nothing but what the tests have."""

OTHER_PRECISION = ("material", "perceptron", "denoiser", "convolutions", "recurrent")
"""Networks that are in each test run in both precisions."""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """One for all; on networks this small, threads cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Workshop(tmp_path_factory.mktemp("faults"))
    torch.set_num_threads(threads)


def marked(cases: Iterable[Case]) -> list:
    """Cases as parameters; the slow ones are marked."""
    return [
        pytest.param(case, id=case.name, marks=pytest.mark.slow if case.slow else ())
        for case in cases
    ]


@pytest.mark.parametrize("case", marked(CASES))
def test_fault(case: Case, workshop: Workshop) -> None:
    answer = workshop.debugged(case)
    print(f"\n{answer}", end="")
    assert answer.change > LEAST_CHANGE[case.precision], "the fault changes nothing"
    assert answer.report.exit_code == 1
    assert answer.verdict in NEAR, str(answer)


def test_share_of_right_answers(workshop: Workshop) -> None:
    check_share([workshop.debugged(case) for case in CASES if not case.slow], least=60)


@pytest.mark.slow
def test_share_of_right_answers_in_all(workshop: Workshop) -> None:
    check_share([workshop.debugged(case) for case in CASES], least=100)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_drawn_faults(name: str, workshop: Workshop) -> None:
    """Nobody chose these: whatever changes the output enough counts."""
    needs(name)
    answers = drawn_answers(name, workshop)
    print("".join(f"\n{answer}" for answer in answers), end="")
    assert len(answers) == DRAWN
    assert {answer.verdict for answer in answers} <= NEAR


@pytest.mark.slow
def test_share_of_drawn_faults(workshop: Workshop) -> None:
    check_share([answer for name in HERE for answer in drawn_answers(name, workshop)], least=100)


def drawn_answers(name: str, workshop: Workshop) -> list[Answer]:
    """What is said about the first drawn faults of a network that change its outputs enough."""
    answers: list[Answer] = []
    precision = NETWORKS[name].precision
    package = workshop.right(name, precision)
    for number, (kind, fault) in enumerate(islice(drawn_faults(package, seed=1), 20 * DRAWN)):
        try:
            answer = workshop.debugged(Case(f"{name}-drawn-{number}", name, kind, fault))
        except NothingChanged:  # such as a bias of zeros made 0
            continue
        if answer.change > 5 * LEAST_CHANGE[precision]:
            answers.append(answer)
        if len(answers) == DRAWN:
            break
    return answers


def check_share(answers: list[Answer], least: int) -> None:
    """Right ones are at least 90 %, the rest are near."""
    print(f"\n{table(answers)}")
    verdicts = Counter(answer.verdict for answer in answers)
    assert len(answers) >= least
    assert verdicts["right"] >= SHARE * len(answers), verdicts
    assert verdicts.keys() <= NEAR, verdicts


def table(answers: list[Answer]) -> str:
    """How many were found, for each framework and kind of fault."""
    lines = []
    for title, key in (
        ("framework", lambda answer: NETWORKS[answer.case.network].framework),
        ("kind", lambda answer: answer.case.kind),
        ("precision", lambda answer: answer.case.precision),
    ):
        counts: dict[str, Counter[str]] = {}
        for answer in answers:
            counts.setdefault(key(answer), Counter())[answer.verdict] += 1
        for name, found in sorted(counts.items()):
            told = ", ".join(f"{count} {verdict}" for verdict, count in found.most_common())
            lines.append(f"{title:10} {name:13} {found.total():4} cases: {told}")
    missed = [str(answer) for answer in answers if answer.verdict != "right"]
    right = len(answers) - len(missed)
    return "\n".join([*lines, f"right first: {right} of {len(answers)}", *missed])


UNTOUCHED = [
    *((name, NETWORKS[name].precision) for name in HERE),
    *((name, "float32") for name in OTHER_PRECISION),
]


@pytest.mark.parametrize(("name", "precision"), UNTOUCHED)
def test_no_false_alarm(name: str, precision: str, workshop: Workshop) -> None:
    check_no_alarm(name, precision, workshop)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        (name, precision)
        for name in NETWORKS
        for precision in ("float16", "float32")
        if (name, precision) not in UNTOUCHED
    ],
)
def test_no_false_alarm_in_the_rest(name: str, precision: str, workshop: Workshop) -> None:
    check_no_alarm(name, precision, workshop)


def needs(name: str) -> None:
    """Skips what needs a library that is not there."""
    if NETWORKS[name].origin == "transformers":
        pytest.importorskip("transformers", reason="installed by make test-slow")


def check_no_alarm(name: str, precision: str, workshop: Workshop) -> None:
    """The package agrees, and no operation is blamed."""
    needs(name)
    package = workshop.right(name, precision)
    report = debug(package, workshop.source(name), golden=golden_path(package))
    assert report.data["causes"] == []
    assert (report.data["verdict"], report.exit_code) == ("agrees", 0)
