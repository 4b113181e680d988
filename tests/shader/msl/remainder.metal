// A static k of 40: the rule about it is turned off, to see what is lost.

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

kernel void remainder(device float *y [[buffer(0)]])
{
    float a[40], b[40];
    for (int i = 0; i < 40; ++i) {
        a[i] = 1.0f;
        b[i] = 1.0f;
    }
    auto left = tensor(a, extents<int, 40, 1>());
    auto right = tensor(b, extents<int, 40, 1>());
    float one[1] = {};
    auto sum = tensor(one, extents<int, 1, 1>());
    constexpr tensor_ops::matmul2d_descriptor d(1, 1, 40, false, true);
    tensor_ops::matmul2d<d, execution_thread> multiplication;
    multiplication.run(left, right, sum);
    y[0] = sum[0, 0];
}
