// refused: a vector is made of one number, or of as many as it has components

#include <metal_stdlib>
using namespace metal;

kernel void refused(device float4 *y [[buffer(0)]])
{
    y[0] = float4(1.0f, 2.0f, 3.0f);
}
