"""The parameters of a shader's functions, as they stand in the source and in the manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metal4conv.layout.emit.identifiers import Identifiers, plain
from metal4conv.shader.document import Argument, SamplerLayout, TextureLayout
from metal4conv.shader.network import Port
from metal4conv.shader.source_names import RESERVED
from metal4conv.shader.source_plan import Plan


@dataclass(frozen=True)
class Textures:
    """The textures that inputs are sampled from, with their names in the source."""

    layouts: tuple[TextureLayout, ...] = ()
    names: tuple[str, ...] = ()
    sampler: SamplerLayout | None = None

    @property
    def inputs(self) -> frozenset[str]:
        """The inputs that come from textures."""
        return frozenset(layout.input for layout in self.layouts)


def named_textures(
    plan: Plan,
    ports: Sequence[Port],
    layouts: Sequence[TextureLayout],
    sampler: SamplerLayout | None = None,
) -> Textures:
    """Textures under plain names that no buffer has."""
    sampled = {layout.input for layout in layouts}
    pairs = zip(ports, plan.names.inputs, strict=True)
    taken = [name for port, name in pairs if port.name not in sampled]
    found = Identifiers([*taken, *plan.names.outputs, *(b.name for b in plan.packed.blocks)])

    def unique(wanted: str) -> str:
        return found.unique(plain(wanted) or "latents", lambda name: [name], RESERVED)

    names = tuple(unique(layout.name) for layout in layouts)
    return Textures(tuple(layouts), names, sampler)


def weight_arguments(plan: Plan) -> tuple[Argument, ...]:
    """The weights' buffer, and the tensors where the host makes them."""
    if not plan.has_blob:
        return ()
    weights = Argument("weights", "buffer", 0, "const device uchar *weights", "weights")
    return (weights, *tensor_arguments(plan))


def tensor_arguments(plan: Plan) -> Iterator[Argument]:
    """The bound tensors of linear layers, in their order."""
    for linear in plan.program.linears:
        block = plan.packed.of[linear]
        if block.index is not None:
            text = f"{plan.names.prefix}_tensor {block.name}"
            yield Argument(block.name, "tensor", block.index, text, "weight", block.name)


def numbered(arguments: Sequence[Argument], first: int) -> tuple[Argument, ...]:
    """The same arguments with buffer indices from `first` on."""
    return tuple(
        Argument(one.name, one.kind, first + place, one.declaration, one.role, one.port)
        for place, one in enumerate(arguments)
    )


def input_arguments(plan: Plan, ports: Sequence[Port], textures: Textures) -> list[Argument]:
    """The buffers of inputs that do not come from textures."""
    return [
        Argument(name, "buffer", None, f"const device float *{name}", "input", port.name)
        for port, name in zip(ports, plan.names.inputs, strict=True)
        if port.name not in textures.inputs
    ]


def output_arguments(plan: Plan, ports: Sequence[Port]) -> list[Argument]:
    """The buffers of outputs."""
    return [
        Argument(name, "buffer", None, f"device float *{name}", "output", port.name)
        for port, name in zip(ports, plan.names.outputs, strict=True)
    ]


def parameters_argument(plan: Plan) -> Argument:
    """The size of the grid of points."""
    text = f"constant {plan.names.prefix}_parameters &parameters"
    return Argument("parameters", "buffer", None, text, "parameters")


def texture_arguments(textures: Textures) -> tuple[Argument, ...]:
    """The textures and their sampler."""
    if not textures.layouts:
        return ()
    found = [
        Argument(name, "texture", index, f"texture2d<float> {name}", "latents", layout.name)
        for index, (layout, name) in enumerate(zip(textures.layouts, textures.names, strict=True))
    ]
    return (*found, Argument("latent_sampler", "sampler", 0, "sampler latent_sampler", "sampler"))


def builtin(name: str, attribute: str) -> Argument:
    """A parameter that the system fills in."""
    return Argument(name, "builtin", None, f"uint {name}", attribute)


def attributed(argument: Argument) -> str:
    """A parameter of an entry point, with the attribute that binds it.

    >>> attributed(builtin("lane", "thread_index_in_simdgroup"))
    'uint lane [[thread_index_in_simdgroup]]'
    """
    attribute = {
        "stage_in": "stage_in",
        "builtin": argument.role,
        "tensor": f"buffer({argument.index})",
    }.get(argument.kind, f"{argument.kind}({argument.index})")
    return f"{argument.declaration} [[{attribute}]]"
