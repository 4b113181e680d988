"""Names of vectors: identifiers of C, after the layers of the model where its weights tell them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from metal4conv.layout.emit.identifiers import C_WORDS, Identifiers, plain
from metal4conv.mil.program import Operation

WEIGHT = re.compile(r"(?:p_)?(?P<layer>.+?)[._/](?:weight|kernel)(?:_to_fp16|_\d+)*")
"""What frameworks call the weight of a layer; the exporter puts `p_` before it."""

NUMBER = re.compile(r"(?:_cast_fp16|_?\d+)+$")
"""What converters put behind an operation to name its result."""

EXPORTED = {
    "addmm", "batch_norm", "bmm", "clamp", "conv1d", "conv2d", "div",
    "f_native_batch_norm_legit_no_training", "hardsigmoid", "hardtanh", "mm",
}  # fmt: skip
"""Operations of exporters that have other names in MIL."""


class Names:
    """Hands out the identifiers of a network's vectors, no two the same.

    `kept` are those of values that whoever reads the shader knows, as they are inputs or outputs;
    the vector that is asked for by such a name first gets it.
    """

    def __init__(self) -> None:
        self.identifiers = Identifiers()
        self.kept: dict[str, str] = {}

    def keep(self, names: Iterable[str]) -> None:
        """Keeps the best identifiers for these names."""
        self.kept |= {name: self.free(name) for name in names}

    def take(self, name: str) -> str:
        """The identifier of a vector; a kept one once.

        >>> names = Names()
        >>> names.keep(["x"])
        >>> names.take("X"), names.take("x"), names.take("x"), names.take("half")
        ('X_2', 'x', 'x_3', 'half_2')
        """
        return self.kept.pop(name, "") or self.free(name)

    def free(self, name: str) -> str:
        """An identifier that is not taken, as close to the name as there is one."""
        return self.identifiers.unique(plain(name) or "value", lambda found: [found], C_WORDS)

    def telling(self, name: str, layer: str, operations: Collection[str]) -> str:
        """The name of a result, or that of its layer where a converter has made the result's of one
        of these operations.
        """
        stem = stem_of(name)
        is_made = (stem in operations or stem in EXPORTED) and name not in self.kept
        return layer if layer and is_made else name


def stem_of(name: str) -> str:
    """A name without the numbers that converters put behind it.

    >>> stem_of("leaky_relu_2_cast_fp16"), stem_of("first")
    ('leaky_relu', 'first')
    """
    return NUMBER.sub("", name)


def layer_name(operation: Operation) -> str:
    """The name of a layer as far as that of its weight tells it, else nothing."""
    for parameter in ("weight", "y", "x"):
        for argument in operation.inputs.get(parameter, ()):
            found = WEIGHT.fullmatch(argument) if isinstance(argument, str) else None
            if found and found["layer"][0].isalpha():  # a number says less than the operation
                return found["layer"]
    return ""
