"""What `shader` does: a small network → Metal source, packed weights, manifest, golden vectors."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metal4conv.assembly import GoldenOptions, depfile_inputs, remove_work
from metal4conv.errors import UsageError
from metal4conv.frontends.source import open_source, parse_options
from metal4conv.outputs import depfile_text, staged, write_file
from metal4conv.report import Finding, Report
from metal4conv.shader.compiler import compile_with_metal
from metal4conv.shader.document import (
    GOLDEN_SUFFIX,
    LATENTS_SUFFIX,
    MANIFEST_SUFFIX,
    SOURCE_SUFFIX,
    WEIGHTS_SUFFIX,
    SamplerLayout,
    ShaderManifest,
    ShaderPort,
    TextureCase,
    TextureLayout,
)
from metal4conv.shader.emit import FILE_SUFFIXES, emit_shader
from metal4conv.shader.latents import Latents, latents_of, parse_latents
from metal4conv.shader.manifest import check_shader_manifest, manifest_json, manifest_text
from metal4conv.shader.network import Network, Port, grid_of_points
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from metal4conv.shader.source import write_source
from metal4conv.shader.textures import latents_bytes, sample, texture_layouts
from metal4conv.shading_costs import overflows, rounded, storage_costs
from metal4conv.shading_source import Given, given_package, given_source, refuse_for_packages
from metal4conv.verify.golden import GoldenCase, GoldenOrigin, write_golden

Say = Callable[[str], None]


@dataclass(frozen=True)
class Shading:
    """The files that were written (or found unchanged), and what to know about them."""

    manifest_file: Path
    manifest: ShaderManifest
    files: tuple[Path, ...]
    unchanged: tuple[Path, ...]
    layers: tuple[Mapping[str, object], ...]
    folded: Mapping[str, str]
    findings: tuple[Finding, ...] = ()

    def report(self) -> Report:
        """The shader for the console."""
        data = {
            "unchanged": [str(path) for path in self.unchanged],
            "layers": [dict(row) for row in self.layers],
            "folded": dict(self.folded),
            "shader": manifest_json(self.manifest),
        }
        return Report("shader", data, self.findings, tuple(str(path) for path in self.files))


def shade(
    source: str | Path,
    *,
    inputs: Iterable[str] = (),
    dims: Iterable[str] = (),
    output: str | Path = ".",
    name: str | None = None,
    output_names: Sequence[str] = (),
    function: str | None = None,
    options: ShaderOptions | None = None,
    latents: Iterable[str] = (),
    sampler: SamplerLayout | None = None,
    languages: Sequence[str] = (),
    compile_metal: bool = False,
    weights: str | Path | None = None,
    signature: str | None = None,
    trust: bool = False,
    golden: GoldenOptions | None = None,
    depfile: str | Path | None = None,
    say: Say = lambda text: None,
) -> Shading:
    """Writes a network as Metal source; the files appear in `output` when everything went well.

    `source` is what `convert` takes, or a package. `latents` binds inputs to textures, as on the
    command line: `latents=material.safetensors`. `languages` are those of host code to write.
    `compile_metal` runs Apple's compiler over the source before anything is put in place.
    """
    chosen = options or ShaderOptions()
    sampled = [parse_latents(text) for text in latents]
    folder = Path(output)
    with staged(folder) as stage:
        say(f"reading {source}")
        if Path(source).suffix == ".mlpackage":
            refuse_for_packages(inputs, dims, output_names, weights, signature)
            given = given_package(Path(source), name, function, golden or GoldenOptions())
        else:
            asked = parse_options(inputs, dims, weights=weights, signature=signature, trust=trust)
            if function is not None:
                raise UsageError("only a package has functions", where=f"--function {function}")
            opened = open_source(str(source), asked)
            work = stage.path("work")
            given = given_source(opened, name, output_names, golden or GoldenOptions(), work, say)
            given = replace(given, files=tuple(depfile_inputs(str(source), opened)))
            remove_work(work)
        found = latents_of(sampled, given.network)
        say("writing Metal source")
        made = written_shader(given, chosen, found, sampler or SamplerLayout(), say)
        contents = {**made.contents, **host_code(made.manifest, languages)}
        for file, content in contents.items():
            stage.path(file).write_bytes(content)
        stem = given.network.name
        write_golden(stage.path(f"{stem}{GOLDEN_SUFFIX}"), made.cases, made.origin)
        if compile_metal:
            say("compiling with Apple's compiler")
            compile_with_metal(stage.path(f"{stem}{SOURCE_SUFFIX}"))
    files = tuple(folder / file for file in [*contents, f"{stem}{GOLDEN_SUFFIX}"])
    done = Shading(
        folder / f"{stem}{MANIFEST_SUFFIX}",
        made.manifest,
        files,
        tuple(stage.unchanged),
        layers_of(given.network),
        given.network.folded,
        (*given.findings, *made.findings),
    )
    if depfile is not None:
        read = [*given.files, *(path for item in found for path in item.files)]
        write_file(Path(depfile), depfile_text(files, read))
    return done


@dataclass(frozen=True)
class Written:
    """The contents of the files, by name, but for the golden vectors."""

    manifest: ShaderManifest
    contents: Mapping[str, bytes]
    cases: tuple[GoldenCase, ...]
    origin: GoldenOrigin
    findings: tuple[Finding, ...]


def written_shader(
    given: Given,
    options: ShaderOptions,
    found: Sequence[Latents],
    sampler: SamplerLayout,
    say: Say,
) -> Written:
    """Source, weights, latents and manifest of a network."""
    stem = given.network.name
    layouts = texture_layouts(found)
    packed = pack_weights(given.network, options)
    origin = f"{given.framework} {given.kind} {given.origin.package}"
    sampled = sampler if found else None
    written = write_source(given.network, options, packed, layouts, sampled, origin)
    cases, texture_case = texture_golden(given, found, sampled, say)
    costs = storage_costs(
        given.network, options.precision, cases, is_package=given.framework == "package"
    )
    latents = latents_bytes(found)
    weights = b"" if options.inline_weights else packed.data
    manifest = ShaderManifest(
        name=stem,
        source={"framework": given.framework, "kind": given.kind},
        precision=options.precision,
        tensors=options.tensors,
        inline_weights=options.inline_weights,
        system=options.system,
        evaluate=written.evaluate,
        inputs=tuple(shader_port(port, layouts) for port in given.network.inputs),
        outputs=tuple(shader_port(port, ()) for port in given.network.outputs),
        entry_points=written.entry_points,
        constants=written.constants,
        blocks=() if options.inline_weights else packed.blocks,
        weights_bytes=len(weights),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        source_sha256=hashlib.sha256(written.text.encode()).hexdigest(),
        estimates=written.estimates,
        passes=written.passes,
        images=written.images,
        textures=layouts,
        sampler=sampled,
        texture_case=texture_case,
        latents_sha256=hashlib.sha256(latents).hexdigest() if found else None,
        rounding=costs.rounding,
        notes=written.notes,
    )
    check_shader_manifest(manifest_json(manifest))
    contents = {
        f"{stem}{SOURCE_SUFFIX}": written.text.encode(),
        f"{stem}{WEIGHTS_SUFFIX}": weights,
        f"{stem}{LATENTS_SUFFIX}": latents,
        f"{stem}{MANIFEST_SUFFIX}": manifest_text(manifest).encode(),
    }
    return Written(
        manifest,
        {name: content for name, content in contents.items() if content},
        cases,
        replace(given.origin, package=stem, package_sha256=manifest.source_sha256),
        (
            *packed.findings,
            *texture_findings(found),
            *rounded(manifest, cases),
            *overflows(costs),
            *left_out(manifest),
        ),
    )


def host_code(manifest: ShaderManifest, languages: Sequence[str]) -> dict[str, bytes]:
    """Files of code for an app, by name."""
    return {
        f"{manifest.name}{FILE_SUFFIXES[language]}": emit_shader(manifest, language).encode()
        for language in dict.fromkeys(languages)
    }


def layers_of(network: Network) -> tuple[dict[str, object], ...]:
    """The layers in their order, for a table."""
    rows: list[dict[str, object]] = []
    for item in network.passes:
        if item.convolution is not None:
            size, kernel = item.convolution.weight.shape[:2], item.convolution.weight.shape[2:]
            rows.append(
                {
                    "operation": item.convolution.label,
                    "kind": f"convolution {kernel[0]}×{kernel[1]}",
                    "inputs": size[1],
                    "outputs": size[0],
                }
            )
        rows += [
            {
                "operation": layer.label,
                "kind": "linear",
                "inputs": layer.operand.width,
                "outputs": layer.result.width,
            }
            for layer in item.program.linears
        ]
    return tuple(rows)


def texture_golden(
    given: Given, found: Sequence[Latents], sampler: SamplerLayout | None, say: Say
) -> tuple[tuple[GoldenCase, ...], TextureCase | None]:
    """The cases, and one more whose inputs are samples of the textures on a grid."""
    if sampler is None or not given.cases:
        return given.cases, None
    first = given.cases[0]
    ports = {port.name: port for port in given.network.inputs}
    port = ports[found[0].input]
    shape = first.inputs[port.name].shape
    width, height = grid_of_points(math.prod(shape[axis] for axis in port.point_axes))
    inputs = dict(first.inputs)
    for item in found:
        rows = sample(item, sampler, width, height)
        shape = first.inputs[item.input].shape
        inputs[item.input] = ports[item.input].array(rows, shape)
    say("running the source model on the textures")
    case = GoldenCase(inputs, first.dimensions, dict(given.predict(inputs)))
    return (*given.cases, case), TextureCase(len(given.cases), width, height)


def shader_port(port: Port, layouts: Sequence[TextureLayout]) -> ShaderPort:
    """A port as the manifest has it."""
    textures = tuple(row.name for row in layouts if row.input == port.name)
    return ShaderPort(
        port.name,
        port.dtype,
        port.shape,
        port.feature_axes,
        port.width,
        port.uniform,
        textures,
    )


def left_out(manifest: ShaderManifest) -> list[Finding]:
    """What the source does not have, as notes."""
    return [Finding("info", "shader-left-out", text) for text in manifest.notes]


def texture_findings(found: Sequence[Latents]) -> list[Finding]:
    """What storing latents as float16 changed."""
    return [
        Finding(
            "info",
            "latents-rounded",
            f'latents of input "{item.input}" are float16 in textures: they differ by up to '
            f"{item.rounding:.2g}",
            item.input,
        )
        for item in found
        if item.rounding
    ]
