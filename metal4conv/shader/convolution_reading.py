"""Spatial convolutions: which fit, and how they cut a network into passes.

The reader of operations turns a `conv` with a kernel larger than one pixel into a `Convolution`
among its steps, of a vector that an earlier step made (`spatial_convolution`); at the end it has
one list of steps, which `passes_of` cuts. A convolution needs its whole image before it begins,
so each begins a pass, and what lies between two of them is that pass's program:

    conv_1(x), relu, conv_2, add x   →   pass 1: x → conv_1, relu → hidden
                                         pass 2: hidden → conv_2, add x → y

What a later pass reads becomes an image: an output of the network where it is one, else an
intermediate image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.limits import ML_PASS, TooLarge
from metal4conv.shader.network import (
    Convolution,
    Pass,
    PointProgram,
    Step,
    Vector,
    operands,
)

LARGEST_KERNEL = 7
"""Pixels. With more, a tile of pixels and all around it outgrows threadgroup memory."""

MOST_CHANNELS = 128
"""Of an image that is convolved. A tile of 4 × 4 pixels with what a 3 × 3 kernel reads around it
takes 18 KB of a threadgroup's 32 in float32, and a thread sums as many numbers at once."""


class NoImage(UnsupportedModel):
    """A convolution of what is no image, as far as a reading takes its axes for features."""


@dataclass(frozen=True)
class ConvolutionArguments:
    """The arguments of a `conv`, all constant; `weight` is [outputs, inputs / groups, *kernel]."""

    operation: str
    """As errors name it: `conv_12 (conv)`."""
    label: str
    weight: np.ndarray
    strides: tuple[int, ...]
    pad_type: str
    pad: tuple[int, ...]
    """Before and after each spatial axis: top, bottom, left, right."""
    dilations: tuple[int, ...]
    groups: int


def is_spatial(weight: np.ndarray) -> bool:
    """Whether a convolution looks at more than one pixel.

    >>> is_spatial(np.zeros((8, 3, 3, 3))), is_spatial(np.zeros((8, 3, 1, 1)))
    (True, False)
    """
    return any(size != 1 for size in weight.shape[2:])


def spatial_convolution(
    arguments: ConvolutionArguments, operand: Vector, result: Vector
) -> Convolution:
    """The convolution of an image whose pixels hold `operand`.

    Until `passes_of` has seen it, `image` is the operand's name. The bias is not part of it.
    `UnsupportedModel` names what does not fit, why, and what to do.
    """
    check_fit(arguments, operand, result)
    weight = np.asarray(arguments.weight, np.float32)
    top, left = window_padding(arguments)
    return Convolution(result, operand.name, weight, (top, left), arguments.label)


def check_fit(arguments: ConvolutionArguments, operand: Vector, result: Vector) -> None:
    """`UnsupportedModel` unless the convolution is one that convolution2d and the plain loop do.

    Groups: `MPPTensorOpsConvolution2d.h` asserts that there is one. Strides would leave an image
    of another size, and all passes of a shader cover the same pixels.
    """
    where = arguments.operation
    if len(arguments.weight.shape) != 4:
        rank = len(arguments.weight.shape) - 2
        raise UnsupportedModel(
            f"a convolution with {rank} spatial axes cannot become a shader, only one with 2",
            where=where,
            hint=ML_PASS,
        )
    height, width = arguments.weight.shape[2:]
    if height % 2 == 0 or width % 2 == 0 or max(height, width) > LARGEST_KERNEL:
        raise UnsupportedModel(
            f"a convolution's kernel has to be odd and at most {LARGEST_KERNEL} × {LARGEST_KERNEL} "
            f"in a shader, this one is {height} × {width}: an even one has no centre, a larger one "
            "reads more pixels around a tile than threadgroup memory holds",
            where=where,
            hint=f"use several 3 × 3 convolutions in its place, or {ML_PASS}",
        )
    if any(stride != 1 for stride in arguments.strides):
        raise UnsupportedModel(
            f"a convolution with strides {list(arguments.strides)} cannot become a shader: all "
            "passes compute the same pixels, so the image has to keep its size",
            where=where,
            hint=f"use stride 1, run the network on a smaller image, or {ML_PASS}",
        )
    if any(dilation != 1 for dilation in arguments.dilations):
        raise UnsupportedModel(
            f"a convolution with dilations {list(arguments.dilations)} cannot become a shader, "
            "only one with dilation 1: a tile would read too many pixels around it",
            where=where,
            hint=f"use dilation 1, or {ML_PASS}",
        )
    if arguments.groups != 1:
        raise UnsupportedModel(
            f"a convolution in {arguments.groups} groups cannot become a shader: Metal's "
            "convolution2d takes one group",
            where=where,
            hint=f"use groups=1, or {ML_PASS}",
        )
    check_widths(arguments, operand, result)


def check_widths(arguments: ConvolutionArguments, operand: Vector, result: Vector) -> None:
    """`TooLarge` for more channels than a tile has room for, `UnsupportedModel` for others than the
    image's.
    """
    outputs, inputs = arguments.weight.shape[:2]
    if max(outputs, inputs) > MOST_CHANNELS:
        raise TooLarge(
            f"a convolution in a shader has at most {MOST_CHANNELS} channels, this one has "
            f"{inputs} inputs and {outputs} outputs: a threadgroup's 32 KB hold no more of a tile",
            where=arguments.operation,
            hint=f"use a narrower layer, or {ML_PASS}",
        )
    if operand.width != inputs or result.width != outputs:
        raise UnsupportedModel(
            f"the convolution's image has to have its {inputs} channels as features of a pixel, "
            f"found {operand.width}",
            where=arguments.operation,
            hint="give it an image of shape (1, channels, height, width)",
        )


def window_padding(arguments: ConvolutionArguments) -> tuple[int, int]:
    """Zeros above and left of the image; `UnsupportedModel` unless the image keeps its size.

    What keeps it is `kernel - 1` on both sides together, and the same on each as the kernel is
    odd. More on one side than on the other moves the image.
    """
    height, width = (int(size) for size in arguments.weight.shape[2:])
    wanted = (height // 2, height // 2, width // 2, width // 2)
    pads = padding_of(arguments)
    if sum(pads[:2]) != height - 1 or sum(pads[2:]) != width - 1:
        raise UnsupportedModel(
            f"a convolution of {height} × {width} pixels with padding {list(pads)} (top, bottom, "
            "left, right) changes the size of its image: all passes of a shader compute the same "
            f"pixels, so expected {list(wanted)}",
            where=arguments.operation,
            hint=f"use padding={max(height, width) // 2}, or {ML_PASS}",
        )
    return pads[0], pads[2]


def padding_of(arguments: ConvolutionArguments) -> tuple[int, ...]:
    """Zeros on each side: top, bottom, left, right; what "same" means for stride 1."""
    match arguments.pad_type:
        case "custom":
            return arguments.pad
        case "same" | "same_lower":
            return tuple(size // 2 for size in arguments.weight.shape[2:] for _ in (0, 1))
    return (0, 0, 0, 0)


AnyStep = Step | Convolution


def passes_of(
    inputs: Mapping[str, Vector], steps: Sequence[AnyStep], outputs: Mapping[str, Vector]
) -> tuple[Pass, ...]:
    """The passes of a network whose steps hold convolutions; ports by name, each with its vector.

    `steps` are in order and none is dead. An element-wise step of inputs alone moves into the
    first pass that uses it, so that a residual connection costs no pass of its own.
    """
    order = pass_numbers(steps, outputs)
    numbers = sorted(set(order) | ({1} if not order else set()))
    names = image_names(inputs, steps, order, outputs)
    return tuple(
        one_pass(
            [step for step, number in zip(steps, order, strict=True) if number == current],
            later=[step for step, number in zip(steps, order, strict=True) if number > current],
            names=names,
            inputs=inputs,
            outputs=outputs,
            is_last=current == numbers[-1],
        )
        for current in numbers
    )


def pass_numbers(steps: Sequence[AnyStep], outputs: Mapping[str, Vector]) -> list[int]:
    """For each step the pass it runs in: that of a convolution, or 0 before the first of them.

    Steps run as early as their operands allow; those of inputs alone as late as their first use.
    """
    made: dict[str, int] = {}
    numbers = []
    convolutions = 0
    for step in steps:
        if isinstance(step, Convolution):
            convolutions += 1
            number = convolutions
        else:
            number = max((made.get(vector.name, 0) for vector in operands(step)), default=0)
        made[step.result.name] = number
        numbers.append(number)
    first_use = dict.fromkeys((vector.name for vector in outputs.values()), convolutions)
    for place in reversed(range(len(steps))):
        step = steps[place]
        if numbers[place] == 0:
            numbers[place] = first_use.get(step.result.name, convolutions)
        # a convolution's image has to be whole one pass earlier
        by = numbers[place] - isinstance(step, Convolution)
        for name in vector_names(step):
            first_use[name] = min(first_use.get(name, convolutions), by)
    return numbers


def image_names(
    inputs: Mapping[str, Vector],
    steps: Sequence[AnyStep],
    order: Sequence[int],
    outputs: Mapping[str, Vector],
) -> dict[str, str]:
    """The port or image that holds each vector which more than one pass sees, by vector's name.

    An output that a later pass reads is no second image.
    """
    names = {vector.name: port for port, vector in reversed(list(outputs.items()))}
    names |= {vector.name: port for port, vector in inputs.items()}
    taken = {*inputs, *outputs}
    for step, number in zip(steps, order, strict=True):
        name = step.result.name
        if name in names or not is_used_later(name, steps, order, number):
            continue
        image = name
        while image in taken:
            image += "_image"
        taken.add(image)
        names[name] = image
    return names


def is_used_later(name: str, steps: Sequence[AnyStep], order: Sequence[int], number: int) -> bool:
    """Whether a pass after pass `number` reads the vector."""
    return any(
        name in vector_names(step)
        for step, other in zip(steps, order, strict=True)
        if other > number
    )


def vector_names(step: AnyStep) -> tuple[str, ...]:
    """The vectors that a step reads, a convolution's image among them."""
    if isinstance(step, Convolution):
        return (step.image,)
    return tuple(vector.name for vector in operands(step))


def one_pass(
    steps: Sequence[AnyStep],
    later: Sequence[AnyStep],
    names: Mapping[str, str],
    inputs: Mapping[str, Vector],
    outputs: Mapping[str, Vector],
    is_last: bool,
) -> Pass:
    """The steps of one pass with what they read from others and what others read of theirs."""
    convolution = next((step for step in steps if isinstance(step, Convolution)), None)
    body = tuple(step for step in steps if not isinstance(step, Convolution))
    made = {step.result.name: step.result for step in steps}
    wanted = {name for step in later for name in vector_names(step)}
    writes = [
        (vector, port)
        for port, vector in outputs.items()
        if vector.name in made or (is_last and vector in inputs.values())
    ]
    written = {vector.name for vector, _ in writes}
    writes += [
        (vector, names[name])
        for name, vector in made.items()
        if name in wanted and name not in written
    ]
    read = [vector for step in body for vector in operands(step)]
    read += [vector for vector, _ in writes]
    reads = tuple(dict.fromkeys(vector for vector in read if vector.name not in made))
    start = () if convolution is None else (convolution.result,)
    return Pass(
        PointProgram((*start, *reads), body, tuple(vector for vector, _ in writes)),
        tuple(names[vector.name] for vector in reads),
        tuple(name for _, name in writes),
        convolution and replace(convolution, image=names[convolution.image]),
    )
