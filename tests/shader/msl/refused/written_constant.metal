// refused: const

#include <metal_stdlib>
using namespace metal;

kernel void refused(constant float *x [[buffer(0)]])
{
    x[0] = 1.0f;
}
