"""What all encoders have: barriers, whose stages each of them checks."""

from __future__ import annotations


class Barriers:
    """The barriers of `MTL4CommandEncoder`."""

    def check_barrier(self, own: int) -> None:
        """Checks the stages on this pass's side."""
        raise NotImplementedError

    def barrierAfterQueueStages_beforeStages_visibilityOptions_(
        self, after: int, before: int, options: int
    ) -> None:
        self.check_barrier(before)

    def barrierAfterStages_beforeQueueStages_visibilityOptions_(
        self, after: int, before: int, options: int
    ) -> None:
        self.check_barrier(after)

    def barrierAfterEncoderStages_beforeEncoderStages_visibilityOptions_(
        self, after: int, before: int, options: int
    ) -> None:
        self.check_barrier(after)
        self.check_barrier(before)
