// refused: tensors in thread memory are for execution_thread alone

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

kernel void refused(device float *y [[buffer(0)]])
{
    half a[1024];
    device half *b = (device half *)y;
    device float *c = (device float *)y;
    auto left = tensor(a, extents<int, 32, 32>());
    auto right = tensor(b, extents<int, 32, 16>());
    auto product = tensor(c, extents<int, 16, 32>());
    constexpr tensor_ops::matmul2d_descriptor d(32, 16, 32, false, true, false);
    tensor_ops::matmul2d<d, execution_simdgroup> multiplication;
    multiplication.run(left, right, product);
    y[0] = float(product[0, 0]);
}
