// A simdgroup multiplies 32 rows of its threads by a matrix in device memory.

#include <metal_stdlib>
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp;

struct parameters {
    uint width;
    uint height;
};

// What a layer of a network does: a tile of rows, a cooperative result, a bias by column.
kernel void layer(const device half *x [[buffer(0)]], const device half *w [[buffer(1)]],
                  device float *y [[buffer(2)]], constant parameters &grid [[buffer(3)]],
                  threadgroup half *tile [[threadgroup(0)]],
                  uint point [[thread_position_in_grid]],
                  uint lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    threadgroup half *rows = tile + simdgroup * 32 * 32;
    for (int i = 0; i < 32; ++i)
        rows[lane * 32 + i] = point < grid.width * grid.height ? x[point * 32 + i] : 0.0h;
    simdgroup_barrier(mem_flags::mem_threadgroup);
    constexpr tensor_ops::matmul2d_descriptor d(32, 16, 32, false, true);
    tensor_ops::matmul2d<d, execution_simdgroup> multiplication;
    auto left = tensor(rows, extents<int, 32, 32>());
    auto right = tensor(w, extents<int, 32, 16>());
    auto sums = multiplication.get_destination_cooperative_tensor<
        decltype(left), decltype(right), float>();
    multiplication.run(left, right, sums);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    rows[lane] = 0.0h;
    for (ushort i = 0; i < sums.get_capacity(); ++i) {
        if (!sums.is_valid_element(i)) continue;
        auto at = sums.get_multidimensional_index(i);
        uint row = point - lane + uint(at[1]);
        if (row < grid.width * grid.height) y[row * 16 + uint(at[0])] = sums[i] + float(at[0]);
    }
}

// The result goes to threadgroup memory, and each thread reads its row of it.
kernel void stored(const device half *x [[buffer(0)]], const device half *w [[buffer(1)]],
                   device float *y [[buffer(2)]], threadgroup float *tile [[threadgroup(0)]],
                   uint point [[thread_position_in_grid]])
{
    auto rows = tensor(x, dextents<int, 2>(32, 32));
    auto right = tensor(w, extents<int, 32, 16>());
    auto product = tensor(tile, extents<int, 16, 32>());
    constexpr tensor_ops::matmul2d_descriptor d(32, 16, 32, false, true);
    tensor_ops::matmul2d<d, execution_simdgroup> multiplication;
    multiplication.run(rows, right, product);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (int i = 0; i < 16; ++i) y[point * 16 + i] = product[i, int(point)];
}

// Two simdgroups together, over an edge: 40 rows in tiles of 64, with what is there already.
kernel void edge(const device half *x [[buffer(0)]], const device half *w [[buffer(1)]],
                 device float *y [[buffer(2)]], uint lane [[thread_index_in_threadgroup]])
{
    auto rows = tensor(x, dextents<int, 2>(32, 40));
    auto right = tensor(w, extents<int, 32, 16>());
    auto result = tensor(y, dextents<int, 2>(16, 40));
    constexpr tensor_ops::matmul2d_descriptor d(
        64, 16, 32, false, true, false,
        tensor_ops::matmul2d_descriptor::mode::multiply_accumulate);
    tensor_ops::matmul2d<d, execution_simdgroups<2>> multiplication;
    auto sums = multiplication.get_destination_cooperative_tensor<
        decltype(rows), decltype(right), float>();
    for (auto place = sums.begin(); place != sums.end(); ++place) {
        auto at = place.get_multidimensional_index();
        *place = float(at[0]) * 100.0f;
    }
    multiplication.run(rows, right, sums);
    sums.store(result);
}
