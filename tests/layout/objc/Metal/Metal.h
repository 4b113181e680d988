// What the emitted code uses of Metal 4: names, types and values as Apple's headers of the macOS 26
// SDK declare them, without their text.
#pragma once

#import <Foundation/Foundation.h>

NS_ASSUME_NONNULL_BEGIN

typedef NS_ENUM(NSUInteger, MTLStorageMode) { MTLStorageModeShared = 0, MTLStorageModePrivate = 2 };
typedef NS_ENUM(NSUInteger, MTLCPUCacheMode) { MTLCPUCacheModeDefaultCache = 0 };
typedef NS_OPTIONS(NSUInteger, MTLResourceOptions) { MTLResourceStorageModeShared = 0 };
typedef NS_ENUM(NSInteger, MTLBindingType) { MTLBindingTypeBuffer = 0, MTLBindingTypeTensor = 37 };
typedef NS_ENUM(NSInteger, MTLTensorDataType) {
    MTLTensorDataTypeFloat32 = 3,
    MTLTensorDataTypeFloat16 = 16,
    MTLTensorDataTypeInt32 = 29,
    MTLTensorDataTypeInt8 = 45,
};
typedef NS_OPTIONS(NSUInteger, MTLTensorUsage) {
    MTLTensorUsageCompute = 1,
    MTLTensorUsageRender = 2,
    MTLTensorUsageMachineLearning = 4,
};
typedef struct MTLResourceID { unsigned long long _impl; } MTLResourceID;
typedef unsigned long long MTLGPUAddress;
typedef NS_ENUM(NSUInteger, MTLDataType) { MTLDataTypeBool = 53 };
typedef NS_ENUM(NSUInteger, MTLPixelFormat) { MTLPixelFormatRGBA8Unorm = 70, MTLPixelFormatRGBA16Float = 115 };
typedef NS_OPTIONS(NSUInteger, MTLTextureUsage) { MTLTextureUsageShaderRead = 1 };
typedef NS_ENUM(NSUInteger, MTLSamplerMinMagFilter) {
    MTLSamplerMinMagFilterNearest = 0,
    MTLSamplerMinMagFilterLinear = 1,
};
typedef NS_ENUM(NSUInteger, MTLSamplerAddressMode) {
    MTLSamplerAddressModeClampToEdge = 0,
    MTLSamplerAddressModeRepeat = 2,
};
typedef NS_ENUM(NSUInteger, MTLPrimitiveType) { MTLPrimitiveTypeTriangle = 3 };
typedef NS_OPTIONS(NSUInteger, MTLRenderStages) { MTLRenderStageVertex = 1, MTLRenderStageFragment = 2 };
typedef NS_OPTIONS(NSUInteger, MTLStages) { MTLStageFragment = 2, MTLStageDispatch = 1 << 27 };
typedef NS_OPTIONS(NSUInteger, MTL4VisibilityOptions) { MTL4VisibilityOptionDevice = 1 };
typedef struct MTLSize { NSUInteger width, height, depth; } MTLSize;
typedef struct MTLOrigin { NSUInteger x, y, z; } MTLOrigin;
typedef struct MTLRegion { MTLOrigin origin; MTLSize size; } MTLRegion;

static inline MTLSize MTLSizeMake(NSUInteger width, NSUInteger height, NSUInteger depth)
{
    MTLSize size = {width, height, depth};
    return size;
}

static inline MTLRegion MTLRegionMake2D(NSUInteger x, NSUInteger y, NSUInteger width, NSUInteger height)
{
    MTLRegion region = {{x, y, 0}, {width, height, 1}};
    return region;
}

@protocol MTLTensor;
@protocol MTL4ArgumentTable;

@interface MTLTensorExtents : NSObject
- (nullable instancetype)initWithRank:(NSUInteger)rank values:(nullable const NSInteger *)values;
@property (readonly) NSUInteger rank;
- (NSInteger)extentAtDimensionIndex:(NSUInteger)dimensionIndex;
@end

@interface MTLTensorDescriptor : NSObject <NSCopying>
@property (readwrite, nonatomic, copy) MTLTensorExtents *dimensions;
@property (readwrite, nonatomic, copy, nullable) MTLTensorExtents *strides;
@property (readwrite, nonatomic) MTLTensorDataType dataType;
@property (readwrite, nonatomic) MTLTensorUsage usage;
@property (readwrite, nonatomic) MTLResourceOptions resourceOptions;
@property (readwrite, nonatomic) MTLCPUCacheMode cpuCacheMode;
@property (readwrite, nonatomic) MTLStorageMode storageMode;
@end

@protocol MTLAllocation <NSObject>
@end

@protocol MTLResource <MTLAllocation>
@property (readonly) MTLStorageMode storageMode;
@property (readonly) MTLCPUCacheMode cpuCacheMode;
@end

@protocol MTLBuffer <MTLResource>
@property (readonly) NSUInteger length;
@property (readonly) MTLGPUAddress gpuAddress;
- (nullable id<MTLTensor>)newTensorWithDescriptor:(MTLTensorDescriptor *)descriptor
                                           offset:(NSUInteger)offset
                                            error:(NSError *_Nullable *_Nullable)error;
@end

@protocol MTLTensor <MTLResource>
@property (readonly) MTLResourceID gpuResourceID;
@property (nullable, readonly) MTLTensorExtents *strides;
@property (readonly) MTLTensorExtents *dimensions;
@property (readonly) MTLTensorDataType dataType;
@property (readonly) MTLTensorUsage usage;
- (void)replaceSliceOrigin:(MTLTensorExtents *)origin
           sliceDimensions:(MTLTensorExtents *)dimensions
                 withBytes:(const void *)bytes
                   strides:(MTLTensorExtents *)strides;
- (void)getBytes:(void *)bytes
         strides:(MTLTensorExtents *)strides
 fromSliceOrigin:(MTLTensorExtents *)origin
 sliceDimensions:(MTLTensorExtents *)dimensions;
@end

@protocol MTLBinding <NSObject>
@property (readonly) NSString *name;
@property (readonly) MTLBindingType type;
@property (readonly) NSUInteger index;
@end

@protocol MTLTensorBinding <MTLBinding>
@property (readonly) MTLTensorDataType tensorDataType;
@property (nullable, readonly) MTLTensorExtents *dimensions;
@end

@interface MTL4ArgumentTableDescriptor : NSObject <NSCopying>
@property (readwrite, nonatomic) NSUInteger maxBufferBindCount;
@property (readwrite, nonatomic) NSUInteger maxTextureBindCount;
@property (readwrite, nonatomic) NSUInteger maxSamplerStateBindCount;
@property (readwrite, nonatomic) BOOL initializeBindings;
@end

@protocol MTL4ArgumentTable <NSObject>
- (void)setAddress:(MTLGPUAddress)gpuAddress atIndex:(NSUInteger)bindingIndex;
- (void)setResource:(MTLResourceID)resourceID atBufferIndex:(NSUInteger)bindingIndex;
- (void)setTexture:(MTLResourceID)resourceID atIndex:(NSUInteger)bindingIndex;
- (void)setSamplerState:(MTLResourceID)resourceID atIndex:(NSUInteger)bindingIndex;
@end

@interface MTLTextureDescriptor : NSObject <NSCopying>
+ (MTLTextureDescriptor *)texture2DDescriptorWithPixelFormat:(MTLPixelFormat)pixelFormat
                                                       width:(NSUInteger)width
                                                      height:(NSUInteger)height
                                                   mipmapped:(BOOL)mipmapped;
@property (readwrite, nonatomic) MTLTextureUsage usage;
@property (readwrite, nonatomic) MTLStorageMode storageMode;
@end

@protocol MTLTexture <MTLResource>
@property (readonly) MTLResourceID gpuResourceID;
- (void)replaceRegion:(MTLRegion)region
          mipmapLevel:(NSUInteger)level
            withBytes:(const void *)pixelBytes
          bytesPerRow:(NSUInteger)bytesPerRow;
@end

@interface MTLSamplerDescriptor : NSObject <NSCopying>
@property (nonatomic) MTLSamplerMinMagFilter minFilter;
@property (nonatomic) MTLSamplerMinMagFilter magFilter;
@property (nonatomic) MTLSamplerAddressMode sAddressMode;
@property (nonatomic) MTLSamplerAddressMode tAddressMode;
@property (nonatomic) BOOL supportArgumentBuffers;
@end

@protocol MTLSamplerState <NSObject>
@property (readonly) MTLResourceID gpuResourceID;
@end

@protocol MTLLibrary <NSObject>
@end

@interface MTLFunctionConstantValues : NSObject <NSCopying>
- (void)setConstantValue:(const void *)value type:(MTLDataType)type atIndex:(NSUInteger)index;
@end

@interface MTL4FunctionDescriptor : NSObject <NSCopying>
@end

@interface MTL4LibraryFunctionDescriptor : MTL4FunctionDescriptor
@property (nullable, copy, atomic) NSString *name;
@property (nullable, readwrite, nonatomic, retain) id<MTLLibrary> library;
@end

@interface MTL4SpecializedFunctionDescriptor : MTL4FunctionDescriptor
@property (nullable, copy, readwrite, nonatomic) MTL4FunctionDescriptor *functionDescriptor;
@property (nullable, copy, nonatomic) MTLFunctionConstantValues *constantValues;
@end

@interface MTL4PipelineDescriptor : NSObject <NSCopying>
@end

@interface MTL4ComputePipelineDescriptor : MTL4PipelineDescriptor
@property (nullable, readwrite, nonatomic, copy) MTL4FunctionDescriptor *computeFunctionDescriptor;
@property (readwrite, nonatomic) MTLSize requiredThreadsPerThreadgroup;
@end

@interface MTL4RenderPipelineDescriptor : MTL4PipelineDescriptor
@property (nullable, readwrite, nonatomic, copy) MTL4FunctionDescriptor *vertexFunctionDescriptor;
@property (nullable, readwrite, nonatomic, copy) MTL4FunctionDescriptor *fragmentFunctionDescriptor;
@end

@protocol MTLComputePipelineState <MTLAllocation>
@end

@protocol MTLRenderPipelineState <MTLAllocation>
@end

@class MTL4CompilerTaskOptions;

@protocol MTL4Compiler <NSObject>
- (nullable id<MTLComputePipelineState>)
    newComputePipelineStateWithDescriptor:(MTL4ComputePipelineDescriptor *)descriptor
                      compilerTaskOptions:(nullable MTL4CompilerTaskOptions *)compilerTaskOptions
                                    error:(NSError *_Nullable *_Nullable)error;
@end

@protocol MTL4CommandEncoder <NSObject>
- (void)barrierAfterEncoderStages:(MTLStages)afterEncoderStages
              beforeEncoderStages:(MTLStages)beforeEncoderStages
                visibilityOptions:(MTL4VisibilityOptions)visibilityOptions;
@end

@protocol MTL4ComputeCommandEncoder <MTL4CommandEncoder>
- (void)setComputePipelineState:(id<MTLComputePipelineState>)state;
- (void)setArgumentTable:(nullable id<MTL4ArgumentTable>)argumentTable;
- (void)setThreadgroupMemoryLength:(NSUInteger)length atIndex:(NSUInteger)index;
- (void)dispatchThreadgroups:(MTLSize)threadgroupsPerGrid threadsPerThreadgroup:(MTLSize)threadsPerThreadgroup;
@end

@protocol MTL4RenderCommandEncoder <MTL4CommandEncoder>
- (void)setRenderPipelineState:(id<MTLRenderPipelineState>)pipelineState;
- (void)setArgumentTable:(nullable id<MTL4ArgumentTable>)argumentTable atStages:(MTLRenderStages)stages;
- (void)drawPrimitives:(MTLPrimitiveType)primitiveType
           vertexStart:(NSUInteger)vertexStart
           vertexCount:(NSUInteger)vertexCount;
@end

@protocol MTLDevice <NSObject>
- (nullable id<MTLTensor>)newTensorWithDescriptor:(MTLTensorDescriptor *)descriptor
                                            error:(NSError *_Nullable *_Nullable)error;
- (nullable id<MTLTexture>)newTextureWithDescriptor:(MTLTextureDescriptor *)descriptor;
- (nullable id<MTLSamplerState>)newSamplerStateWithDescriptor:(MTLSamplerDescriptor *)descriptor;
- (nullable id<MTLBuffer>)newBufferWithBytes:(const void *)pointer
                                      length:(NSUInteger)length
                                     options:(MTLResourceOptions)options;
- (nullable id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options;
- (nullable id<MTL4ArgumentTable>)newArgumentTableWithDescriptor:(MTL4ArgumentTableDescriptor *)descriptor
                                                           error:(NSError *_Nullable *_Nullable)error;
@end

@interface MTL4MachineLearningPipelineDescriptor : NSObject <NSCopying>
- (void)setInputDimensions:(nullable MTLTensorExtents *)dimensions atBufferIndex:(NSInteger)bufferIndex;
@end

NS_ASSUME_NONNULL_END
