// What the emitted code uses of metal-cpp for macOS 26: names, types and values only. Its versions
// differ in whether parameters point to `const`, so MAYBE_CONST is given by who compiles.
#pragma once

#include <cstdint>

#include "../Foundation/Foundation.hpp"

namespace MTL4 {
class ArgumentTable;
class ArgumentTableDescriptor;
class FunctionDescriptor;
} // namespace MTL4

namespace MTL {

enum StorageMode : NS::UInteger { StorageModeShared = 0 };
enum CPUCacheMode : NS::UInteger { CPUCacheModeDefaultCache = 0 };
using ResourceOptions = NS::UInteger;
enum : ResourceOptions { ResourceStorageModeShared = 0 };
enum TensorDataType : NS::Integer { TensorDataTypeFloat32 = 3, TensorDataTypeFloat16 = 16 };
using TensorUsage = NS::UInteger;
enum : TensorUsage { TensorUsageCompute = 1, TensorUsageRender = 2 };
enum DataType : NS::UInteger { DataTypeBool = 53 };
enum PixelFormat : NS::UInteger { PixelFormatRGBA8Unorm = 70 };
using TextureUsage = NS::UInteger;
enum : TextureUsage { TextureUsageShaderRead = 1 };
enum SamplerMinMagFilter : NS::UInteger { SamplerMinMagFilterNearest = 0, SamplerMinMagFilterLinear = 1 };
enum SamplerAddressMode : NS::UInteger { SamplerAddressModeClampToEdge = 0, SamplerAddressModeRepeat = 2 };
enum PrimitiveType : NS::UInteger { PrimitiveTypeTriangle = 3 };
using RenderStages = NS::UInteger;
enum : RenderStages { RenderStageVertex = 1, RenderStageFragment = 2 };
using Stages = NS::UInteger;
enum : Stages { StageDispatch = 1 << 27 };
using GPUAddress = std::uint64_t;
struct ResourceID { std::uint64_t _impl; };

class Size {
public:
    static Size Make(NS::UInteger width, NS::UInteger height, NS::UInteger depth);
    NS::UInteger width, height, depth;
};

class Region {
public:
    static Region Make2D(NS::UInteger x, NS::UInteger y, NS::UInteger width, NS::UInteger height);
};

class TensorExtents {
public:
    static TensorExtents *alloc();
    TensorExtents *init(NS::UInteger rank, const NS::Integer *values);
};

class TensorDescriptor {
public:
    static TensorDescriptor *alloc();
    TensorDescriptor *init();
    void setDimensions(MAYBE_CONST TensorExtents *dimensions);
    void setStrides(MAYBE_CONST TensorExtents *strides);
    void setDataType(TensorDataType dataType);
    void setUsage(TensorUsage usage);
    void setStorageMode(StorageMode storageMode);
    void setCpuCacheMode(CPUCacheMode cpuCacheMode);
};

class Tensor {
public:
    ResourceID gpuResourceID() const;
};

class Buffer {
public:
    NS::UInteger length() const;
    GPUAddress gpuAddress() const;
    StorageMode storageMode() const;
    CPUCacheMode cpuCacheMode() const;
    Tensor *newTensor(MAYBE_CONST TensorDescriptor *descriptor, NS::UInteger offset, NS::Error **error);
};

class TextureDescriptor {
public:
    static TextureDescriptor *texture2DDescriptor(
        PixelFormat pixelFormat, NS::UInteger width, NS::UInteger height, bool mipmapped);
    void setUsage(TextureUsage usage);
    void setStorageMode(StorageMode storageMode);
};

class Texture {
public:
    ResourceID gpuResourceID() const;
    void replaceRegion(Region region, NS::UInteger level, const void *pixelBytes, NS::UInteger bytesPerRow);
};

class SamplerDescriptor {
public:
    static SamplerDescriptor *alloc();
    SamplerDescriptor *init();
    void setMinFilter(SamplerMinMagFilter minFilter);
    void setMagFilter(SamplerMinMagFilter magFilter);
    void setSAddressMode(SamplerAddressMode sAddressMode);
    void setTAddressMode(SamplerAddressMode tAddressMode);
    void setSupportArgumentBuffers(bool supportArgumentBuffers);
};

class SamplerState {
public:
    ResourceID gpuResourceID() const;
};

class Library;
class ComputePipelineState;
class RenderPipelineState;

class FunctionConstantValues {
public:
    static FunctionConstantValues *alloc();
    FunctionConstantValues *init();
    void setConstantValue(const void *value, DataType type, NS::UInteger index);
    void setConstantValue(const void *value, DataType type, MAYBE_CONST NS::String *name);
};

class Device {
public:
    Buffer *newBuffer(NS::UInteger length, ResourceOptions options);
    Buffer *newBuffer(const void *pointer, NS::UInteger length, ResourceOptions options);
    Texture *newTexture(MAYBE_CONST TextureDescriptor *descriptor);
    SamplerState *newSamplerState(MAYBE_CONST SamplerDescriptor *descriptor);
    MTL4::ArgumentTable *newArgumentTable(
        MAYBE_CONST MTL4::ArgumentTableDescriptor *descriptor, NS::Error **error);
};

} // namespace MTL

namespace MTL4 {

using VisibilityOptions = NS::UInteger;
enum : VisibilityOptions { VisibilityOptionDevice = 1 };

class ArgumentTableDescriptor {
public:
    static ArgumentTableDescriptor *alloc();
    ArgumentTableDescriptor *init();
    void setMaxBufferBindCount(NS::UInteger maxBufferBindCount);
    void setMaxTextureBindCount(NS::UInteger maxTextureBindCount);
    void setMaxSamplerStateBindCount(NS::UInteger maxSamplerStateBindCount);
    void setInitializeBindings(bool initializeBindings);
};

class ArgumentTable {
public:
    void setAddress(MTL::GPUAddress gpuAddress, NS::UInteger bindingIndex);
    void setResource(MTL::ResourceID resourceID, NS::UInteger bindingIndex);
    void setTexture(MTL::ResourceID resourceID, NS::UInteger bindingIndex);
    void setSamplerState(MTL::ResourceID resourceID, NS::UInteger bindingIndex);
};

class FunctionDescriptor {};

class LibraryFunctionDescriptor : public FunctionDescriptor {
public:
    static LibraryFunctionDescriptor *alloc();
    LibraryFunctionDescriptor *init();
    void setLibrary(MAYBE_CONST MTL::Library *library);
    void setName(MAYBE_CONST NS::String *name);
};

class SpecializedFunctionDescriptor : public FunctionDescriptor {
public:
    static SpecializedFunctionDescriptor *alloc();
    SpecializedFunctionDescriptor *init();
    void setFunctionDescriptor(MAYBE_CONST FunctionDescriptor *functionDescriptor);
    void setConstantValues(MAYBE_CONST MTL::FunctionConstantValues *constantValues);
};

class ComputePipelineDescriptor {
public:
    static ComputePipelineDescriptor *alloc();
    ComputePipelineDescriptor *init();
    void setComputeFunctionDescriptor(MAYBE_CONST FunctionDescriptor *computeFunctionDescriptor);
    void setRequiredThreadsPerThreadgroup(MTL::Size requiredThreadsPerThreadgroup);
};

class RenderPipelineDescriptor {
public:
    void setVertexFunctionDescriptor(MAYBE_CONST FunctionDescriptor *vertexFunctionDescriptor);
    void setFragmentFunctionDescriptor(MAYBE_CONST FunctionDescriptor *fragmentFunctionDescriptor);
};

class CompilerTaskOptions;
class PipelineStageDynamicLinkingDescriptor;

class Compiler {
public:
    MTL::ComputePipelineState *newComputePipelineState(
        MAYBE_CONST ComputePipelineDescriptor *descriptor, MAYBE_CONST CompilerTaskOptions *compilerTaskOptions,
        NS::Error **error);
    MTL::ComputePipelineState *newComputePipelineState(
        MAYBE_CONST ComputePipelineDescriptor *descriptor,
        MAYBE_CONST PipelineStageDynamicLinkingDescriptor *dynamicLinkingDescriptor,
        MAYBE_CONST CompilerTaskOptions *compilerTaskOptions, NS::Error **error);
};

class CommandEncoder {
public:
    void barrierAfterEncoderStages(
        MTL::Stages afterEncoderStages, MTL::Stages beforeEncoderStages, VisibilityOptions visibilityOptions);
};

class ComputeCommandEncoder : public CommandEncoder {
public:
    void setComputePipelineState(MAYBE_CONST MTL::ComputePipelineState *state);
    void setArgumentTable(MAYBE_CONST ArgumentTable *argumentTable);
    void setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index);
    void dispatchThreadgroups(MTL::Size threadgroupsPerGrid, MTL::Size threadsPerThreadgroup);
};

class RenderCommandEncoder : public CommandEncoder {
public:
    void setRenderPipelineState(MAYBE_CONST MTL::RenderPipelineState *pipelineState);
    void setArgumentTable(MAYBE_CONST ArgumentTable *argumentTable, MTL::RenderStages stages);
    void drawPrimitives(MTL::PrimitiveType primitiveType, NS::UInteger vertexStart, NS::UInteger vertexCount);
};

} // namespace MTL4
