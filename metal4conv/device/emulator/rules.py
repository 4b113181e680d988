"""What Metal 4 asks of machine-learning and compute passes: the rules of the emulator.

A rule is broken loudly. Where Metal is known to answer with an error object or nothing, so does the
emulator, and the error's text begins with the rule; where Metal ends the process, reads beyond
memory, or goes on with wrong results, the emulator raises `BrokenRule`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NoReturn

KNOWN_BY = {
    "H": "Apple's headers and documentation",
    "M": "measured on hardware by others",
    "D": "read from the system's code by others",
    "P": "read from PyObjC's metadata and sources",
    "I": "concluded from the others",
}
"""How a rule is known."""


@dataclass(frozen=True)
class Rule:
    """One rule; `known_by` holds letters of `KNOWN_BY`."""

    identifier: str
    text: str
    known_by: str
    source: str


RULES = {
    rule.identifier: rule
    for rule in (
        # tensors and their descriptors
        Rule("extents-rank", "extents have at most 16 dimensions", "H", "MTLTensor.h"),
        Rule(
            "extents-metadata",
            "PyObjC has to be told that the values of extents are an array",
            "P",
            "Metal/_metadata.py of PyObjC 12.2.2, which lacks initWithRank:values:",
        ),
        Rule("positive-dimensions", "all dimensions are above 0", "HD", "MTLTensor.h"),
        Rule("known-type", "the data type is one of MTLTensorDataType", "H", "MTLTensor.h"),
        Rule("usage-bits", "the usage has no bits but compute, render, machine learning", "D", ""),
        Rule(
            "device-strides",
            "a tensor made by the device has no strides",
            "HMD",
            "MTLDevice.h; MTLTensorDomain 2 on an M5",
        ),
        Rule("buffer-strides", "a tensor made in a buffer has strides", "HD", "MTLBuffer.h"),
        Rule("stride-count", "each dimension has a stride", "I", "MTLTensor.h"),
        Rule("first-stride", "the first stride is 1", "H", "MTLTensor.h"),
        Rule(
            "growing-strides",
            "a stride is not below the one before it times its dimension",
            "H",
            "MTLTensor.h",
        ),
        Rule(
            "row-alignment",
            "with machine learning usage, rows start at multiples of 64 bytes",
            "HM",
            "MTLTensor.h; rows of 2072 bytes were padded to 2112 on an M5",
        ),
        Rule(
            "outer-strides",
            "with machine learning usage, only rows are padded: outer strides are exact",
            "H",
            "MTLTensor.h",
        ),
        Rule("storage-mode", "a tensor has its buffer's storage mode", "H", "MTLTensor.h"),
        Rule("cache-mode", "a tensor has its buffer's CPU cache mode", "H", "MTLTensor.h"),
        Rule("hazard-mode", "a tensor has its buffer's hazard tracking, or the default", "D", ""),
        Rule(
            "learning-offset",
            "with machine learning usage, a tensor starts at offset 0 of its buffer",
            "HD",
            "MTLBuffer.h",
        ),
        Rule("buffer-offset", "an offset is a multiple of the element's size", "HD", "MTLBuffer.h"),
        Rule(
            "buffer-length",
            "the buffer is long enough, which Metal does not check",
            "M",
            "tensors beyond their buffer were made on an M5 Pro",
        ),
        Rule(
            "size-strides",
            "tensorSizeAndAlignWithDescriptor: wants strides",
            "M",
            "a segmentation fault on an M5 Pro",
        ),
        # between CPU and tensors
        Rule(
            "shared-storage", "the CPU copies to and from shared storage only", "H", "MTLTensor.h"
        ),
        Rule(
            "slice-bounds",
            "a slice has the tensor's rank and lies within it",
            "D",
            "",
        ),
        Rule("cpu-strides", "the first stride of CPU memory is 1", "H", "MTLTensor.h"),
        Rule(
            "cpu-length",
            "CPU memory is long enough, which nothing checks",
            "P",
            "replaceSliceOrigin… and getBytes… take a pointer of variable length",
        ),
        Rule(
            "cpu-writable",
            "getBytes… wants writable memory; of other memory the bridge fills a copy",
            "P",
            "PyObjC's buffer arguments",
        ),
        Rule(
            "wait-first",
            "the CPU leaves tensors and buffers alone until the GPU is done with them",
            "H",
            "MTLTensor.h",
        ),
        # packages, functions, pipelines
        Rule(
            "package-path",
            "a Metal package is a folder whose name ends in .mtlpackage",
            "D",
            "MTLLibraryErrorDomain 1",
        ),
        Rule("package-manifest", "its manifest.json is one of its version", "D", ""),
        Rule("function-name", "the library has the function", "HD", "MTLLibraryErrorDomain"),
        Rule(
            "function-descriptor",
            "a pipeline descriptor has a machine learning function",
            "D",
            "an NSInvalidArgumentException otherwise",
        ),
        Rule(
            "input-dimensions",
            "inputs of open sizes are given them before the pipeline is compiled",
            "HM",
            "MTL4MachineLearningPipeline.h; 'Unsupported Ops or shapes for MLEncoder'",
        ),
        Rule(
            "fixed-dimensions",
            "input dimensions agree with the sizes that the package fixes",
            "I",
            "MTL4MachineLearningPipeline.h",
        ),
        Rule(
            "binding-type",
            "inputs and outputs are not bfloat16",
            "M",
            "'Unsupported Ops or shapes for MLEncoder'",
        ),
        Rule(
            "compile-alone",
            "pipelines are compiled one at a time",
            "M",
            "crashes on a beta of macOS 27",
        ),
        Rule(
            "reflection-option",
            "a pipeline has no reflection unless its options ask for binding info",
            "H",
            "MTL4PipelineState.h",
        ),
        Rule(
            "binding-description",
            "a tensor binding is not printed",
            "M",
            "an unknown selector on a beta of macOS 27",
        ),
        # sources and compute pipelines
        Rule(
            "language-version",
            "a source with tensors is compiled as Metal 4.0 or newer",
            "H",
            "MTLCompileOptions: MTLLanguageVersion4_0 is 0x40000",
        ),
        Rule(
            "constant-metadata",
            "PyObjC has to be told that the value of a function constant is memory",
            "P",
            "Metal/_metadata.py of PyObjC 12.2.2, which lacks setConstantValue:type:atIndex:",
        ),
        Rule(
            "constant-memory",
            "the value of a function constant is as long as its type, which nothing checks",
            "P",
            "setConstantValue:type:atIndex: takes a pointer",
        ),
        Rule(
            "constant-known", "the source has a function constant of this index and type", "I", ""
        ),
        Rule(
            "constant-set",
            "all function constants have values before a pipeline is compiled",
            "H",
            "MTLFunctionConstantValues; the language's chapter on function constants",
        ),
        Rule(
            "compute-function",
            "a compute pipeline descriptor has a function of a library that was compiled",
            "H",
            "MTL4ComputePipeline.h",
        ),
        Rule(
            "threads-told",
            "a pipeline with cooperative tensors is told how large its threadgroups are",
            "H",
            "MTL4ComputePipeline.h: requiredThreadsPerThreadgroup",
        ),
        Rule(
            "threads-required",
            "threadgroups have the size that the pipeline was told",
            "H",
            "MTL4ComputePipeline.h: requiredThreadsPerThreadgroup",
        ),
        Rule(
            "threads-most",
            "a threadgroup has at most the pipeline's maxTotalThreadsPerThreadgroup",
            "H",
            "MTLComputePipeline.h",
        ),
        Rule("threadgroups-some", "a dispatch has threadgroups", "I", ""),
        Rule(
            "memory-step",
            "threadgroup memory comes in multiples of 16 bytes",
            "H",
            "MTL4ComputeCommandEncoder.h",
        ),
        Rule(
            "memory-most",
            "all threadgroup memory fits the device's maxThreadgroupMemoryLength",
            "H",
            "MTLDevice.h",
        ),
        Rule(
            "memory-set", "threadgroup memory has a length before the dispatch", "HI", "MTLDevice.h"
        ),
        Rule(
            "compute-usage", "a tensor of a compute function has compute usage", "H", "MTLTensor.h"
        ),
        Rule(
            "texture-read",
            "a texture that a function samples has the usage shader read",
            "H",
            "MTLTexture.h",
        ),
        Rule(
            "texture-bytes",
            "bytes for a region of a texture are long enough, which nothing checks",
            "P",
            "replaceRegion… takes a pointer of variable length",
        ),
        Rule(
            "sampler-argument",
            "a sampler in an argument table supports argument buffers",
            "I",
            "MTLSampler.h",
        ),
        Rule(
            "table-count",
            "an argument table has at most 31 buffers",
            "H",
            "MTL4ArgumentTable.h",
        ),
        Rule("slot-address", "an address is within a living buffer", "HI", "MTL4ArgumentTable.h"),
        Rule(
            "slot-kind",
            "a pointer's slot holds an address, a tensor's slot a tensor",
            "H",
            "MTL4ArgumentTable.h",
        ),
        # the argument table and the dispatch
        Rule("slot-index", "an index is within the argument table, unchecked", "D", ""),
        Rule("slot-resource", "a slot holds a living tensor", "HD", "MTL4ArgumentTable.h"),
        Rule("pipeline-set", "a pipeline is set before the dispatch", "D", ""),
        Rule("table-set", "an argument table is set before the dispatch", "D", ""),
        Rule("table-size", "the argument table has a slot for each binding", "D", ""),
        Rule("slots-filled", "the slot of each binding is filled", "D", ""),
        Rule(
            "bound-type",
            "a bound tensor has the binding's type",
            "M",
            "MPSGraph ended the process: expected element type f32 but received f16",
        ),
        Rule("bound-extents", "a bound tensor has the binding's dimensions", "HD", "MTLTensor.h"),
        Rule("learning-usage", "a bound tensor has machine learning usage", "H", "MTLTensor.h"),
        Rule(
            "heap-needed",
            "a heap is given unless the network needs none",
            "D",
            "",
        ),
        Rule(
            "heap-type",
            "the heap's type is placement",
            "HD",
            "MTL4MachineLearningCommandEncoder.h",
        ),
        Rule(
            "heap-size",
            "the heap has as many free bytes as the pipeline's intermediatesHeapSize",
            "HD",
            "MTL4MachineLearningCommandEncoder.h",
        ),
        Rule("heap-bytes", "a heap has more than 0 bytes", "I", "MTLHeap.h"),
        Rule(
            "barrier-stage",
            "a barrier in a pass names the stage of the pass: machine learning, or dispatch",
            "H",
            "MTL4CommandEncoder.h",
        ),
        Rule(
            "barrier-between",
            "a barrier or a wait stands between dispatches that share what one of them writes",
            "H",
            "MTL4CommandEncoder.h: resources of Metal 4 are untracked",
        ),
        # residency
        Rule(
            "resident",
            "tensors or their buffers, other buffers and the heap are resident when the GPU runs",
            "HM",
            "MTLResidencySet.h; needed for tensors in buffers on an M5",
        ),
        Rule(
            "residency-commit",
            "what is added to a residency set is committed",
            "H",
            "MTLResidencySet.h",
        ),
        Rule("residency-count", "a queue has at most 32 residency sets", "H", "MTL4CommandQueue.h"),
        # command buffers
        Rule(
            "begin-first", "a command buffer is begun before it encodes", "H", "MTL4CommandBuffer.h"
        ),
        Rule("one-encoder", "an encoder ends before the next begins", "H", "MTL4CommandBuffer.h"),
        Rule(
            "encoder-ended", "encoders end before their command buffer", "H", "MTL4CommandEncoder.h"
        ),
        Rule(
            "buffer-ended",
            "a command buffer is ended before it is committed",
            "H",
            "MTL4CommandQueue.h",
        ),
        Rule(
            "commit-count",
            "a commit says how many command buffers it has",
            "P",
            "commit:count: takes an array whose length is the next argument",
        ),
        Rule(
            "allocator-alone",
            "an allocator serves one command buffer at a time",
            "H",
            "MTL4CommandAllocator.h",
        ),
        Rule(
            "allocator-busy",
            "an allocator is not reset while the GPU runs",
            "H",
            "MTL4CommandAllocator.h",
        ),
        Rule(
            "kept-alive",
            "what a command buffer uses lives until the GPU is done: it retains nothing",
            "H",
            "MTL4CommandBuffer.h",
        ),
        Rule(
            "quiet-handler",
            "a feedback handler raises nothing: on Metal's thread that ends the process",
            "P",
            "PyObjC's blocks",
        ),
    )
}
"""By identifier, in the order in which an app meets them."""


class BrokenRule(Exception):
    """A rule was broken where Metal would crash or go wrong in silence."""

    def __init__(self, rule: Rule, detail: str) -> None:
        super().__init__(broken_text(rule, detail))
        self.rule = rule
        self.detail = detail


@dataclass(frozen=True)
class EmulatedError:
    """An NSError: a text, and a code of a domain."""

    text: str
    error_domain: str
    error_code: int

    def localizedDescription(self) -> str:
        return self.text

    def domain(self) -> str:
        return self.error_domain

    def code(self) -> int:
        return self.error_code


@dataclass
class Referee:
    """Who notes each rule that is broken, and answers as Metal would."""

    broken: list[Rule] = field(default_factory=list)

    def note(self, identifier: str) -> Rule:
        """Notes a rule where Metal answers with nothing."""
        rule = RULES[identifier]
        self.broken.append(rule)
        return rule

    def fault(self, identifier: str, detail: str) -> NoReturn:
        """Raises `BrokenRule`."""
        raise BrokenRule(self.note(identifier), detail)

    def require(self, holds: bool, identifier: str, detail: str) -> None:
        """Raises `BrokenRule` unless the rule is kept."""
        if not holds:
            self.fault(identifier, detail)

    def error(
        self, identifier: str, detail: str, domain: str, code: int
    ) -> tuple[None, EmulatedError]:
        """What a selector gives back that has an error: no object, and the error."""
        text = broken_text(self.note(identifier), detail)
        return None, EmulatedError(text, domain, code)


def broken_text(rule: Rule, detail: str) -> str:
    """A broken rule in words, with how it is known.

    >>> broken_text(RULES["usage-bits"], "found 0b1000").partition(" (")[0]
    'usage-bits: the usage has no bits but compute, render, machine learning: found 0b1000'
    """
    known = known_text(rule)
    return f"{rule.identifier}: {rule.text}: {detail} ({known})"


def known_text(rule: Rule) -> str:
    """How a rule is known, with its source.

    >>> known_text(RULES["usage-bits"])
    "read from the system's code by others"
    """
    return f"{ways(rule)}: {rule.source}" if rule.source else ways(rule)


def ways(rule: Rule) -> str:
    """In which ways a rule is known."""
    return ", ".join(KNOWN_BY[letter] for letter in rule.known_by)


def rules_table() -> list[tuple[str, str, str, str]]:
    """The rules for a page: identifier, rule, how it is known, source."""
    return [(rule.identifier, rule.text, ways(rule), rule.source) for rule in RULES.values()]


Answer = tuple[Any, EmulatedError | None]
"""An object, or None and an error. (Any: an object of the emulator.)"""
