// refused: a fragment function uses no barrier

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

inline float shared(float x)
{
    threadgroup_barrier(mem_flags::mem_none);
    return x;
}

fragment float4 refused(float4 position [[position]])
{
    return float4(shared(position.x));
}
