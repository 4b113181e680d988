"""Barriers that name stages which their pass cannot run, or cannot wait for."""

from __future__ import annotations

from collections.abc import Iterator

from metal4conv.frame.checks import fail
from metal4conv.frame.document import Barrier, Frame
from metal4conv.frame.stages import UNWAITABLE, in_order, stages_of
from metal4conv.report import Finding


def barrier_findings(frame: Frame) -> Iterator[Finding]:
    """Barriers that name stages which their pass cannot run, or cannot wait for."""
    for number, barrier in enumerate(frame.synchronization.barriers, 1):
        owner = frame.pass_named(barrier.pass_name)
        where = f"barrier {number}"
        if barrier.form == "encoder":
            yield from encoder_findings(barrier, number, stages_of(owner.kind))
            continue
        side = "before" if barrier.form == "consumer" else "after"
        own = barrier.before if side == "before" else barrier.after
        if own & owner.stages:
            continue
        learns = owner.kind == "machine_learning"
        yield Finding(
            "failure" if learns else "warning",
            "barrier-other-stage",
            f'{where}, a {barrier.form} barrier in "{owner.name}", has {side} = '
            f"{list(in_order(own))}, and the pass runs {', '.join(in_order(owner.stages))}",
            where,
            f"name {', '.join(in_order(owner.stages))} there",
        )


def encoder_findings(barrier: Barrier, number: int, able: tuple[str, ...]) -> Iterator[Finding]:
    """What a barrier within a pass must not name."""
    where = f"barrier {number}"
    foreign = (barrier.after | barrier.before) - {*able}
    if foreign:
        yield fail(
            "barrier-stage",
            where,
            f'{where}, within "{barrier.pass_name}", names {", ".join(in_order(foreign))}, '
            "which its encoder cannot encode",
            f"its encoder has {', '.join(able)}",
        )
    late = barrier.after & {*UNWAITABLE}
    if late and not foreign:
        yield fail(
            "barrier-stage",
            where,
            f'{where}, within "{barrier.pass_name}", waits for {", ".join(in_order(late))}, '
            "which GPUs that render in tiles cannot do within a pass",
            "start another render pass there, with a consumer barrier",
        )
