// Objects that do nothing but print what they are told, behind the declarations beside this file:
// so emitted code runs without Metal, and a test reads what it asked for.
#pragma once

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include <Metal/Metal.hpp>

inline bool refuses_matmul2d = false;

// An object with what it was told.
template <class Base>
struct Made : Base {
    std::vector<long> numbers;
    std::string text;
};

template <class Class>
Made<Class> *made(Class *object) { return static_cast<Made<Class> *>(object); }

template <class Class>
const Made<Class> *made(const Class *object) { return static_cast<const Made<Class> *>(object); }

struct FakeBuffer : MTL::Buffer {
    std::vector<char> bytes;
    MTL::GPUAddress address = 0;
};
struct FakeTensor : MTL::Tensor { std::uint64_t identifier = 0; };
struct FakeTexture : MTL::Texture { std::uint64_t identifier = 0; };
struct FakeSampler : MTL::SamplerState {};
struct FakeConstants : MTL::FunctionConstantValues { int index = -1; bool value = false; };
struct FakeTextureDescriptor : MTL::TextureDescriptor {};

inline MTL::GPUAddress next_address = 0x1000;
inline std::uint64_t next_identifier = 100;

namespace NS {
struct FakeString : String { std::string text; };
inline String *String::string(const char *text, StringEncoding)
{
    auto *made = new FakeString;
    made->text = text;
    return made;
}
inline const char *String::utf8String() const { return static_cast<const FakeString *>(this)->text.c_str(); }
inline String *Error::localizedDescription() const { return String::string("refused", UTF8StringEncoding); }
} // namespace NS

namespace MTL {
inline Size Size::Make(NS::UInteger width, NS::UInteger height, NS::UInteger depth) { return {width, height, depth}; }
inline Region Region::Make2D(NS::UInteger, NS::UInteger, NS::UInteger width, NS::UInteger height)
{
    std::printf("region %lu %lu\n", width, height);
    return {};
}
inline TensorExtents *TensorExtents::alloc() { return new Made<TensorExtents>; }
inline TensorExtents *TensorExtents::init(NS::UInteger rank, const NS::Integer *values)
{
    made(this)->numbers.assign(values, values + rank);
    return this;
}
inline std::string text_of(const TensorExtents *extents)
{
    std::string text;
    for (long number : made(extents)->numbers) {
        text += " " + std::to_string(number);
    }
    return text;
}
inline TensorDescriptor *TensorDescriptor::alloc() { return new Made<TensorDescriptor>; }
inline TensorDescriptor *TensorDescriptor::init() { return this; }
inline void TensorDescriptor::setDimensions(MAYBE_CONST TensorExtents *dimensions) { made(this)->text += " d" + text_of(dimensions); }
inline void TensorDescriptor::setStrides(MAYBE_CONST TensorExtents *strides) { made(this)->text += " s" + text_of(strides); }
inline void TensorDescriptor::setDataType(TensorDataType dataType) { made(this)->text += " t " + std::to_string(dataType); }
inline void TensorDescriptor::setUsage(TensorUsage usage) { made(this)->text += " u " + std::to_string(usage); }
inline void TensorDescriptor::setStorageMode(StorageMode) {}
inline void TensorDescriptor::setCpuCacheMode(CPUCacheMode) {}
inline ResourceID Tensor::gpuResourceID() const { return {static_cast<const FakeTensor *>(this)->identifier}; }
inline NS::UInteger Buffer::length() const { return static_cast<const FakeBuffer *>(this)->bytes.size(); }
inline GPUAddress Buffer::gpuAddress() const { return static_cast<const FakeBuffer *>(this)->address; }
inline StorageMode Buffer::storageMode() const { return StorageModeShared; }
inline CPUCacheMode Buffer::cpuCacheMode() const { return CPUCacheModeDefaultCache; }
inline Tensor *Buffer::newTensor(MAYBE_CONST TensorDescriptor *descriptor, NS::UInteger offset, NS::Error **)
{
    std::printf("tensor at %lu%s\n", offset, made(descriptor)->text.c_str());
    auto *tensor = new FakeTensor;
    tensor->identifier = next_identifier++;
    return tensor;
}
inline TextureDescriptor *TextureDescriptor::texture2DDescriptor(
    PixelFormat pixelFormat, NS::UInteger width, NS::UInteger height, bool)
{
    std::printf("texture %lu %lu %lu\n", static_cast<unsigned long>(pixelFormat), width, height);
    return new FakeTextureDescriptor;
}
inline void TextureDescriptor::setUsage(TextureUsage) {}
inline void TextureDescriptor::setStorageMode(StorageMode) {}
inline ResourceID Texture::gpuResourceID() const { return {static_cast<const FakeTexture *>(this)->identifier}; }
inline void Texture::replaceRegion(Region, NS::UInteger level, const void *pixelBytes, NS::UInteger bytesPerRow)
{
    std::printf("rows %lu %lu first byte %d\n", level, bytesPerRow, *static_cast<const unsigned char *>(pixelBytes));
}
inline SamplerDescriptor *SamplerDescriptor::alloc() { return new Made<SamplerDescriptor>; }
inline SamplerDescriptor *SamplerDescriptor::init() { return this; }
inline void SamplerDescriptor::setMinFilter(SamplerMinMagFilter minFilter) { std::printf("min %lu\n", static_cast<unsigned long>(minFilter)); }
inline void SamplerDescriptor::setMagFilter(SamplerMinMagFilter magFilter) { std::printf("mag %lu\n", static_cast<unsigned long>(magFilter)); }
inline void SamplerDescriptor::setSAddressMode(SamplerAddressMode mode) { std::printf("s %lu\n", static_cast<unsigned long>(mode)); }
inline void SamplerDescriptor::setTAddressMode(SamplerAddressMode mode) { std::printf("t %lu\n", static_cast<unsigned long>(mode)); }
inline void SamplerDescriptor::setSupportArgumentBuffers(bool) {}
inline ResourceID SamplerState::gpuResourceID() const { return {7}; }
class Library {};
class ComputePipelineState {};
class RenderPipelineState {};
inline FunctionConstantValues *FunctionConstantValues::alloc() { return new FakeConstants; }
inline FunctionConstantValues *FunctionConstantValues::init() { return this; }
inline void FunctionConstantValues::setConstantValue(const void *value, DataType, NS::UInteger index)
{
    static_cast<FakeConstants *>(this)->index = static_cast<int>(index);
    static_cast<FakeConstants *>(this)->value = *static_cast<const bool *>(value);
}
inline Buffer *Device::newBuffer(const void *pointer, NS::UInteger length, ResourceOptions)
{
    auto *buffer = new FakeBuffer;
    const char *start = static_cast<const char *>(pointer);
    buffer->bytes.assign(start, start + length);
    buffer->address = next_address;
    next_address += 0x1000;
    return buffer;
}
inline Texture *Device::newTexture(MAYBE_CONST TextureDescriptor *)
{
    auto *texture = new FakeTexture;
    texture->identifier = next_identifier++;
    return texture;
}
inline SamplerState *Device::newSamplerState(MAYBE_CONST SamplerDescriptor *) { return new FakeSampler; }
inline MTL4::ArgumentTable *Device::newArgumentTable(MAYBE_CONST MTL4::ArgumentTableDescriptor *, NS::Error **)
{
    return new MTL4::ArgumentTable;
}
} // namespace MTL

namespace MTL4 {
inline ArgumentTableDescriptor *ArgumentTableDescriptor::alloc() { return new ArgumentTableDescriptor; }
inline ArgumentTableDescriptor *ArgumentTableDescriptor::init() { return this; }
inline void ArgumentTableDescriptor::setMaxBufferBindCount(NS::UInteger count) { std::printf("buffers %lu\n", count); }
inline void ArgumentTableDescriptor::setMaxTextureBindCount(NS::UInteger count) { std::printf("textures %lu\n", count); }
inline void ArgumentTableDescriptor::setMaxSamplerStateBindCount(NS::UInteger count) { std::printf("samplers %lu\n", count); }
inline void ArgumentTableDescriptor::setInitializeBindings(bool) {}
inline void ArgumentTable::setAddress(MTL::GPUAddress address, NS::UInteger index)
{
    std::printf("address %lx at %lu\n", static_cast<unsigned long>(address), index);
}
inline void ArgumentTable::setResource(MTL::ResourceID resource, NS::UInteger index)
{
    std::printf("resource %lu at %lu\n", static_cast<unsigned long>(resource._impl), index);
}
inline void ArgumentTable::setTexture(MTL::ResourceID resource, NS::UInteger index)
{
    std::printf("texture %lu at %lu\n", static_cast<unsigned long>(resource._impl), index);
}
inline void ArgumentTable::setSamplerState(MTL::ResourceID resource, NS::UInteger index)
{
    std::printf("sampler %lu at %lu\n", static_cast<unsigned long>(resource._impl), index);
}
inline LibraryFunctionDescriptor *LibraryFunctionDescriptor::alloc() { return new LibraryFunctionDescriptor; }
inline LibraryFunctionDescriptor *LibraryFunctionDescriptor::init() { return this; }
inline void LibraryFunctionDescriptor::setLibrary(MAYBE_CONST MTL::Library *) {}
inline void LibraryFunctionDescriptor::setName(MAYBE_CONST NS::String *name)
{
    std::printf("function %s\n", name->utf8String());
}
inline SpecializedFunctionDescriptor *SpecializedFunctionDescriptor::alloc() { return new SpecializedFunctionDescriptor; }
inline SpecializedFunctionDescriptor *SpecializedFunctionDescriptor::init() { return this; }
inline bool last_value = false;
inline void SpecializedFunctionDescriptor::setFunctionDescriptor(MAYBE_CONST FunctionDescriptor *) {}
inline void SpecializedFunctionDescriptor::setConstantValues(MAYBE_CONST MTL::FunctionConstantValues *values)
{
    const auto *held = static_cast<const FakeConstants *>(values);
    last_value = held->value;
    std::printf("constant %d = %d\n", held->index, held->value);
}
inline ComputePipelineDescriptor *ComputePipelineDescriptor::alloc() { return new ComputePipelineDescriptor; }
inline ComputePipelineDescriptor *ComputePipelineDescriptor::init() { return this; }
inline void ComputePipelineDescriptor::setComputeFunctionDescriptor(MAYBE_CONST FunctionDescriptor *) {}
inline void ComputePipelineDescriptor::setRequiredThreadsPerThreadgroup(MTL::Size size)
{
    std::printf("required %lu %lu %lu\n", size.width, size.height, size.depth);
}
inline void RenderPipelineDescriptor::setVertexFunctionDescriptor(MAYBE_CONST FunctionDescriptor *) {}
inline void RenderPipelineDescriptor::setFragmentFunctionDescriptor(MAYBE_CONST FunctionDescriptor *) {}
class CompilerTaskOptions {};
inline MTL::ComputePipelineState *Compiler::newComputePipelineState(
    MAYBE_CONST ComputePipelineDescriptor *, MAYBE_CONST CompilerTaskOptions *, NS::Error **error)
{
    if (refuses_matmul2d && last_value) {
        if (error != nullptr) {
            *error = new NS::Error;
        }
        return nullptr;
    }
    return new MTL::ComputePipelineState;
}
inline void CommandEncoder::barrierAfterEncoderStages(MTL::Stages after, MTL::Stages before, VisibilityOptions)
{
    std::printf("barrier %lu %lu\n", after, before);
}
inline void ComputeCommandEncoder::setComputePipelineState(MAYBE_CONST MTL::ComputePipelineState *) { std::puts("pipeline"); }
inline void ComputeCommandEncoder::setArgumentTable(MAYBE_CONST ArgumentTable *) { std::puts("table"); }
inline void ComputeCommandEncoder::setThreadgroupMemoryLength(NS::UInteger length, NS::UInteger index)
{
    std::printf("memory %lu at %lu\n", length, index);
}
inline void ComputeCommandEncoder::dispatchThreadgroups(MTL::Size groups, MTL::Size threads)
{
    std::printf("dispatch %lu %lu %lu of %lu %lu %lu\n", groups.width, groups.height, groups.depth, threads.width,
                threads.height, threads.depth);
}
inline void RenderCommandEncoder::setRenderPipelineState(MAYBE_CONST MTL::RenderPipelineState *) { std::puts("pipeline"); }
inline void RenderCommandEncoder::setArgumentTable(MAYBE_CONST ArgumentTable *, MTL::RenderStages stages)
{
    std::printf("table at %lu\n", stages);
}
inline void RenderCommandEncoder::drawPrimitives(MTL::PrimitiveType type, NS::UInteger first, NS::UInteger count)
{
    std::printf("draw %lu %lu %lu\n", static_cast<unsigned long>(type), first, count);
}
} // namespace MTL4
