// One thread multiplies small matrices in all the ways there are: 2 x 64 by 64 x 3.

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

template <bool TransposeLeft, bool TransposeRight, int K, class Left, class Right>
inline void multiply(thread Left &left, thread Right &right, device float *y)
{
    constexpr tensor_ops::matmul2d_descriptor d(2, 3, K, TransposeLeft, TransposeRight);
    tensor_ops::matmul2d<d, execution_thread> multiplication;
    float sums[6] = {};
    auto product = tensor(sums, extents<int, 3, 2>());
    multiplication.run(left, right, product);
    for (int row = 0; row < 2; ++row)
        for (int column = 0; column < 3; ++column) y[row * 3 + column] = product[column, row];
}

kernel void products(const device half *a [[buffer(0)]], device float *y [[buffer(1)]])
{
    constexpr int dynamic = tensor_ops::dynamic_length_v<int>;
    // the weights hold a (2 x 64), its transpose, b (64 x 3) and its transpose
    const device half *a_transposed = a + 128;
    const device half *b = a + 256;
    const device half *b_transposed = a + 256 + 192;

    auto nn_left = tensor(a, extents<int, 64, 2>());
    auto nn_right = tensor(b, extents<int, 3, 64>());
    multiply<false, false, 64>(nn_left, nn_right, y);
    auto nt_right = tensor(b_transposed, extents<int, 64, 3>());
    multiply<false, true, dynamic>(nn_left, nt_right, y + 6);
    auto tn_left = tensor(a_transposed, dextents<int, 2>(2, 64));
    multiply<true, false, dynamic>(tn_left, nn_right, y + 12);
    multiply<true, true, 64>(tn_left, nt_right, y + 18);

    // the same in other words: strides, and a slice of a tensor
    tensor<const device half, dextents<int, 2>, tensor_inline> turned(
        a_transposed, dextents<int, 2>(64, 2), array<int, 2>{2, 1});
    multiply<false, true, 64>(turned, nt_right, y + 24);
    auto tail = nn_left.slice<32, 2>(32, 0);
    auto right_tail = nt_right.slice<32, 3>(32, 0);
    multiply<false, true, 32>(tail, right_tail, y + 30);
    auto moved = nt_right.slice(0, 1);
    y[36] = float(moved[2, 1]) - float(nt_right[2, 2]);
    y[37] = float(moved.get_extent(1));
}

kernel void destinations(const device half *a [[buffer(0)]], device float *y [[buffer(1)]])
{
    auto left = tensor(a, extents<int, 32, 1>());
    auto right = tensor(a + 32, extents<int, 32, 2>());
    // rounded once, at the end
    constexpr tensor_ops::matmul2d_descriptor d(1, 2, 32, false, true);
    tensor_ops::matmul2d<d, execution_thread> multiplication;
    half sums[2] = {};
    auto product = tensor(sums, extents<int, 2, 1>());
    multiplication.run(left, right, product);
    y[0] = float(product[0, 0]);
    y[1] = float(product[1, 0]);

    constexpr tensor_ops::matmul2d_descriptor more(
        1, 2, 32, false, true, false, tensor_ops::matmul2d_descriptor::mode::multiply_accumulate);
    tensor_ops::matmul2d<more, execution_thread> accumulation;
    float totals[2] = {1000.0f, -1.0f};
    auto total = tensor(totals, extents<int, 2, 1>());
    accumulation.run(left, right, total);
    y[2] = total[0, 0];
    y[3] = total[1, 0];

    char first[32], second[64];
    for (int i = 0; i < 32; ++i) {
        first[i] = char(i - 16);
        second[i] = 127;
        second[32 + i] = char(i);
    }
    auto bytes = tensor(first, extents<int, 32, 1>());
    auto weights = tensor(second, extents<int, 32, 2>());
    int counts[2] = {};
    auto count = tensor(counts, extents<int, 2, 1>());
    multiplication.run(bytes, weights, count);
    y[4] = float(count[0, 0]);
    y[5] = float(count[1, 0]);

    // relaxed: the mantissa may be cut before the multiplication
    constexpr tensor_ops::matmul2d_descriptor loose(1, 1, 32, false, true, true);
    constexpr tensor_ops::matmul2d_descriptor strict(1, 1, 32, false, true, false);
    float third[32] = {}, fourth[32] = {};
    third[0] = 1.0f + 0x1p-20f;
    fourth[0] = 1.0f;
    auto p = tensor(third, extents<int, 32, 1>());
    auto q = tensor(fourth, extents<int, 32, 1>());
    float one[1] = {};
    auto r = tensor(one, extents<int, 1, 1>());
    tensor_ops::matmul2d<loose, execution_thread> loosely;
    loosely.run(p, q, r);
    y[6] = r[0, 0] - 1.0f;
    tensor_ops::matmul2d<strict, execution_thread> strictly;
    strictly.run(p, q, r);
    y[7] = r[0, 0] - 1.0f;
}
