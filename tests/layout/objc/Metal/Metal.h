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
};
typedef NS_OPTIONS(NSUInteger, MTLTensorUsage) {
    MTLTensorUsageCompute = 1,
    MTLTensorUsageRender = 2,
    MTLTensorUsageMachineLearning = 4,
};
typedef struct MTLResourceID { unsigned long long _impl; } MTLResourceID;

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
@property (readwrite, nonatomic) BOOL initializeBindings;
@end

@protocol MTL4ArgumentTable <NSObject>
- (void)setResource:(MTLResourceID)resourceID atBufferIndex:(NSUInteger)bindingIndex;
@end

@protocol MTLDevice <NSObject>
- (nullable id<MTLTensor>)newTensorWithDescriptor:(MTLTensorDescriptor *)descriptor
                                            error:(NSError *_Nullable *_Nullable)error;
- (nullable id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options;
- (nullable id<MTL4ArgumentTable>)newArgumentTableWithDescriptor:(MTL4ArgumentTableDescriptor *)descriptor
                                                           error:(NSError *_Nullable *_Nullable)error;
@end

@interface MTL4MachineLearningPipelineDescriptor : NSObject <NSCopying>
- (void)setInputDimensions:(nullable MTLTensorExtents *)dimensions atBufferIndex:(NSInteger)bufferIndex;
@end

NS_ASSUME_NONNULL_END
