// refused: address space

#include <metal_stdlib>
using namespace metal;

inline float first(const thread float *x)
{
    return x[0];
}

kernel void refused(device float *y [[buffer(0)]])
{
    y[0] = first(y);
}
