// refused: no matching constructor|no viable constructor|constraints not satisfied

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

kernel void refused(device half *a [[buffer(0)]], device float *y [[buffer(1)]])
{
    tensor<device half, dextents<int, 2>> left(a, dextents<int, 2>(32, 1));
    y[0] = float(left[0, 0]);
}
