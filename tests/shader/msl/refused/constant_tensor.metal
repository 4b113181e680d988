// refused: a tensor lies in device, threadgroup or thread memory

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

kernel void refused(constant half *a [[buffer(0)]], device float *y [[buffer(1)]])
{
    auto left = tensor(a, extents<int, 32, 1>());
    y[0] = float(left[0, 0]);
}
