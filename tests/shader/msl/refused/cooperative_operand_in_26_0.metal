// refused: cooperative tensors as what is multiplied need system 26.3

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

kernel void refused(device half *a [[buffer(0)]], device float *y [[buffer(1)]])
{
    auto left = tensor(a, extents<int, 32, 32>());
    auto right = tensor(a, extents<int, 32, 32>());
    constexpr tensor_ops::matmul2d_descriptor d(32, 32, 32, false, true);
    tensor_ops::matmul2d<d, execution_simdgroup> first;
    auto sum = first.get_destination_cooperative_tensor<decltype(left), decltype(right), half>();
    first.run(left, right, sum);
    auto result = first.get_destination_cooperative_tensor<decltype(sum), decltype(right), float>();
    first.run(sum, right, result);
}
