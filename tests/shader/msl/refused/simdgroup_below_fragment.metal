// refused: a fragment function uses no barrier and no scope but execution_thread

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

template <class Scope>
inline void multiply(device half *a, device half *b, device float *c)
{
    auto left = tensor(a, extents<int, 32, 32>());
    auto right = tensor(b, extents<int, 32, 16>());
    constexpr tensor_ops::matmul2d_descriptor d(32, 16, 32, false, true);
    tensor_ops::matmul2d<d, Scope> multiplication;
    auto product = tensor(c, extents<int, 16, 32>());
    multiplication.run(left, right, product);
}

template <class Scope>
inline float evaluate(device float *y)
{
    multiply<Scope>((device half *)y, (device half *)y, y);
    return y[0];
}

fragment float4 refused(device float *y [[buffer(0)]])
{
    return float4(evaluate<execution_simdgroup>(y));
}
