// refused: k of a tensor is not that of matmul2d_descriptor

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

kernel void refused(device float *y [[buffer(0)]])
{
    half a[64] = {};
    half b[1024] = {};
    float c[16] = {};
    auto left = tensor(a, extents<int, 32, 1>());
    auto right = tensor(b, extents<int, 64, 16>());
    auto product = tensor(c, extents<int, 16, 1>());
    constexpr tensor_ops::matmul2d_descriptor d(1, 16, 64, false, true, false);
    tensor_ops::matmul2d<d, execution_thread> multiplication;
    multiplication.run(left, right, product);
    y[0] = float(product[0, 0]);
}
