// refused: undeclared identifier 'erf'

#include <metal_stdlib>
using namespace metal;

kernel void refused(device float *y [[buffer(0)]])
{
    y[0] = erf(y[1]);
}
