"""The calls that put a barrier, fence, event or wait into an app, in Objective-C."""

from __future__ import annotations

from metal4conv.frame.document import Barrier, Event, Fence, Frame
from metal4conv.frame.needed import MissingWait
from metal4conv.frame.stages import mask_text, visibility_text

Call = Barrier | Fence | Event | MissingWait


def call_text(call: Call) -> str:
    """The call itself; `encoder` is that of the pass which `place_text` names.

    >>> call_text(Barrier("ao", "consumer", 0, frozenset({"fragment"}), frozenset({"dispatch"}), 0))
    ... # doctest: +NORMALIZE_WHITESPACE
    '[encoder barrierAfterQueueStages:MTLStageFragment beforeStages:MTLStageDispatch
    visibilityOptions:MTL4VisibilityOptionNone]'
    """
    match call:
        case Barrier():
            after, before = SELECTORS[call.form]
            return (
                f"[encoder {after}:{mask_text(call.after)} {before}:{mask_text(call.before)} "
                f"visibilityOptions:{visibility_text(call.level)}]"
            )
        case Fence():
            return (
                f"[encoder updateFence:fence afterEncoderStages:{mask_text(call.after)}] … "
                f"[encoder waitForFence:fence beforeEncoderStages:{mask_text(call.before)}]"
            )
        case Event():
            value = f"frame - {call.frames_ago}" if call.frames_ago else "frame"
            return (
                f"[queue signalEvent:event value:frame] … [queue waitForEvent:event value:{value}]"
            )
        case MissingWait():
            value = f"frame - {call.wait.frames_ago}" if call.wait.frames_ago else "frame"
            return (
                "[queue signalEvent:sharedEvent value:frame] … "
                f"[sharedEvent waitUntilSignaledValue:{value} timeoutMS:timeout]"
            )


SELECTORS = {
    "consumer": ("barrierAfterQueueStages", "beforeStages"),
    "producer": ("barrierAfterStages", "beforeQueueStages"),
    "encoder": ("barrierAfterEncoderStages", "beforeEncoderStages"),
}


def place_text(frame: Frame, call: Call) -> str:
    """Where the call stands."""
    match call:
        case Barrier():
            item = frame.pass_named(call.pass_name)
            step = item.steps[call.step].name
            of_step = (
                f'step "{step}" of "{item.name}"' if step else f'the commands of "{item.name}"'
            )
            return f"{'after' if call.form == 'producer' else 'before'} {of_step}"
        case Fence():
            return f'at the end of "{call.update_pass}" … at the start of "{call.wait_pass}"'
        case Event():
            first, second = frame.pass_named(call.signal), frame.pass_named(call.wait)
            return (
                f'on "{first.queue}" after the commit of "{first.name}" … '
                f'on "{second.queue}" before that of "{second.name}"'
            )
        case MissingWait():
            queue = frame.pass_named(call.wait.pass_name).queue
            return (
                f'on "{queue}" after the commit of "{call.wait.pass_name}" … '
                f'before the CPU does "{call.pass_name}"'
            )
