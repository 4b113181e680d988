// Both operands are cooperative tensors, filled by their coordinates: from system 26.3 on.

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

template <bool TransposeLeft, bool TransposeRight>
inline void multiply(const device half *a, const device half *b, device float *y)
{
    constexpr tensor_ops::matmul2d_descriptor d(16, 32, 32, TransposeLeft, TransposeRight);
    tensor_ops::matmul2d<d, execution_simdgroup> multiplication;
    auto left = multiplication.template get_left_input_cooperative_tensor<half, half, float>();
    auto right = multiplication.template get_right_input_cooperative_tensor<half, half, float>();
    auto sums = multiplication.template get_destination_cooperative_tensor<
        decltype(left), decltype(right), float>();
    for (ushort i = 0; i < left.get_capacity(); ++i) {
        if (!left.is_valid_element(i)) continue;
        auto at = left.get_multidimensional_index(i);
        left[i] = a[TransposeLeft ? at[0] * 32 + at[1] : at[1] * 32 + at[0]];
    }
    right.load(tensor(b, dextents<int, 2>(32, 32)));
    multiplication.run(left, right, sums);
    sums.store(tensor(y, extents<int, 32, 16>()));
}

kernel void inputs(const device half *a [[buffer(0)]], device float *y [[buffer(1)]])
{
    multiply<false, true>(a, a + 512, y);
    multiply<true, false>(a, a + 512, y + 512);
}
