"""Classes and selectors that PyObjC's wheel cannot prove: what Apple's headers declare.

PyObjC finds classes and the plain properties of classes in the Objective-C runtime, so its wheel
says nothing about them. They were read in the headers of the macOS 26 SDK. A row holds the header,
the class above it, and the selectors that the runner may use; a property counts with its getter
and setter.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Declaration:
    """A class in a header."""

    header: str
    parent: str
    selectors: tuple[str, ...] = ()
    class_selectors: tuple[str, ...] = ("alloc",)


def properties(*names: str) -> tuple[str, ...]:
    """Getters and setters.

    >>> properties("dataType")
    ('dataType', 'setDataType:')
    """
    return tuple(
        selector for name in names for selector in (name, f"set{name[0].upper()}{name[1:]}:")
    )


CLASSES = {
    "NSObject": Declaration("NSObject.h", "", ("init",)),
    "NSURL": Declaration("NSURL.h", "NSObject", ("path",), ("fileURLWithPath:",)),
    "NSNull": Declaration("NSNull.h", "NSObject", (), ("null",)),
    "NSError": Declaration(
        "NSError.h", "NSObject", ("code", "domain", "localizedDescription"), ("alloc",)
    ),
    "NSArray": Declaration("NSArray.h", "NSObject", ("count",)),
    "MTLTensorExtents": Declaration(
        "MTLTensor.h", "NSObject", ("initWithRank:values:", "rank", "extentAtDimensionIndex:")
    ),
    "MTLTensorDescriptor": Declaration(
        "MTLTensor.h",
        "NSObject",
        properties(
            *("dimensions", "strides", "dataType", "usage", "resourceOptions"),
            *("cpuCacheMode", "storageMode", "hazardTrackingMode"),
        ),
    ),
    "MTLHeapDescriptor": Declaration(
        "MTLHeap.h",
        "NSObject",
        properties(
            *("size", "type", "storageMode", "cpuCacheMode", "hazardTrackingMode"),
            "resourceOptions",
        ),
    ),
    "MTLResidencySetDescriptor": Declaration(
        "MTLResidencySet.h", "NSObject", properties("label", "initialCapacity")
    ),
    "MTLFunctionReflection": Declaration("MTLLibrary.h", "NSObject", ("bindings",)),
    "MTLTextureDescriptor": Declaration(
        "MTLTexture.h",
        "NSObject",
        properties("pixelFormat", "width", "height", "usage", "storageMode", "mipmapLevelCount"),
        ("alloc", "texture2DDescriptorWithPixelFormat:width:height:mipmapped:"),
    ),
    "MTLSamplerDescriptor": Declaration(
        "MTLSampler.h",
        "NSObject",
        properties(
            *("minFilter", "magFilter", "sAddressMode", "tAddressMode", "supportArgumentBuffers")
        ),
    ),
    "MTLCompileOptions": Declaration(
        "MTLLibrary.h", "NSObject", properties("languageVersion", "mathMode")
    ),
    "MTLFunctionConstantValues": Declaration(
        "MTLFunctionConstantValues.h", "NSObject", ("setConstantValue:type:atIndex:", "reset")
    ),
    "MTLComputePipelineReflection": Declaration("MTLComputePipeline.h", "NSObject", ("bindings",)),
    "MTLCaptureManager": Declaration(
        "MTLCaptureManager.h",
        "NSObject",
        ("isCapturing", "startCaptureWithDescriptor:error:", "stopCapture", "supportsDestination:"),
        ("sharedCaptureManager",),
    ),
    "MTLCaptureDescriptor": Declaration(
        "MTLCaptureManager.h", "NSObject", properties("captureObject", "destination", "outputURL")
    ),
    "MTL4FunctionDescriptor": Declaration("MTL4FunctionDescriptor.h", "NSObject"),
    "MTL4LibraryFunctionDescriptor": Declaration(
        "MTL4LibraryFunctionDescriptor.h", "MTL4FunctionDescriptor", properties("name", "library")
    ),
    "MTL4SpecializedFunctionDescriptor": Declaration(
        "MTL4SpecializedFunctionDescriptor.h",
        "MTL4FunctionDescriptor",
        properties("functionDescriptor", "specializedName", "constantValues"),
    ),
    "MTL4PipelineOptions": Declaration(
        "MTL4PipelineState.h", "NSObject", properties("shaderReflection", "shaderValidation")
    ),
    "MTL4PipelineDescriptor": Declaration(
        "MTL4PipelineState.h", "NSObject", properties("label", "options")
    ),
    "MTL4MachineLearningPipelineDescriptor": Declaration(
        "MTL4MachineLearningPipeline.h",
        "MTL4PipelineDescriptor",
        (
            *properties("label", "machineLearningFunctionDescriptor"),
            *("setInputDimensions:atBufferIndex:", "setInputDimensions:withRange:"),
            *("inputDimensionsAtBufferIndex:", "reset"),
        ),
    ),
    "MTL4ComputePipelineDescriptor": Declaration(
        "MTL4ComputePipeline.h",
        "MTL4PipelineDescriptor",
        (
            *properties("computeFunctionDescriptor", "maxTotalThreadsPerThreadgroup"),
            *properties("requiredThreadsPerThreadgroup"),
            *properties("threadGroupSizeIsMultipleOfThreadExecutionWidth"),
            "reset",
        ),
    ),
    "MTL4MachineLearningPipelineReflection": Declaration(
        "MTL4MachineLearningPipeline.h", "NSObject", ("bindings",)
    ),
    "MTL4CompilerDescriptor": Declaration("MTL4Compiler.h", "NSObject", properties("label")),
    "MTL4ArgumentTableDescriptor": Declaration(
        "MTL4ArgumentTable.h",
        "NSObject",
        properties(
            *("maxBufferBindCount", "maxTextureBindCount", "maxSamplerStateBindCount"),
            *("initializeBindings", "label"),
        ),
    ),
    "MTL4CommandQueueDescriptor": Declaration(
        "MTL4CommandQueue.h", "NSObject", properties("label", "feedbackQueue")
    ),
    "MTL4CommitOptions": Declaration("MTL4CommandQueue.h", "NSObject", ("addFeedbackHandler:",)),
}
"""By name. All of them exist from macOS 26 on; those without a 4 in their name, and not of
tensors, earlier."""


def declared() -> dict[str, tuple[str, ...]]:
    """The classes that declare each selector, as instance or class method."""
    found: dict[str, list[str]] = {}
    for name, row in CLASSES.items():
        for selector in (*row.selectors, *row.class_selectors):
            found.setdefault(selector, []).append(name)
    return {selector: tuple(names) for selector, names in found.items()}
