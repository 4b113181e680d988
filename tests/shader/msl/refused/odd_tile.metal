// refused: m or n of a matmul2d of simdgroups is a multiple of 16

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

kernel void refused(device float *y [[buffer(0)]])
{
    device half *a = (device half *)y;
    device half *b = (device half *)y;
    device float *c = (device float *)y;
    auto left = tensor(a, extents<int, 32, 8>());
    auto right = tensor(b, extents<int, 32, 24>());
    auto product = tensor(c, extents<int, 24, 8>());
    constexpr tensor_ops::matmul2d_descriptor d(8, 24, 32, false, true, false);
    tensor_ops::matmul2d<d, execution_simdgroup> multiplication;
    multiplication.run(left, right, product);
    y[0] = float(product[0, 0]);
}
