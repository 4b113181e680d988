// refused: a fragment function uses no barrier and no scope but execution_thread

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

fragment float4 refused(device float *y [[buffer(0)]])
{
    device half *a = (device half *)y;
    device half *b = (device half *)y;
    device float *c = (device float *)y;
    auto left = tensor(a, extents<int, 32, 32>());
    auto right = tensor(b, extents<int, 32, 16>());
    auto product = tensor(c, extents<int, 16, 32>());
    constexpr tensor_ops::matmul2d_descriptor d(32, 16, 32, false, true, false);
    tensor_ops::matmul2d<d, execution_simdgroup> multiplication;
    multiplication.run(left, right, product);
    return float4(y[0]);
}
