// siren.metal (Metal Shading Language 4.0)
// siren: distance (1) of position (3).
// In a shader of your own, call siren_evaluate(inputs, weights, tensors); or use siren_compute and
// siren_fragment.
// All numbers are float.
// Functions of `precise` keep digits that fast math, the compiler's default, would lose.
// `weights` is the file siren.weights as it is, at an address that is a multiple of 128 bytes.
// siren_use_matmul2d (function constant 0) picks matmul2d of Metal Performance Primitives, or
// arithmetic that every compiler of Metal has.

#include <metal_stdlib>
// Metal Performance Primitives has matmul2d from Metal 4 on; without it the plain path is compiled.
#if defined(__HAVE_TENSOR__) && \
    __has_include(<MetalPerformancePrimitives/MetalPerformancePrimitives.h>)
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
#define SIREN_HAS_MATMUL2D 1
#else
#define SIREN_HAS_MATMUL2D 0
#endif

using namespace metal;

// Picks the path when the pipeline is made: matmul2d where it is true, else plain arithmetic.
constant bool siren_use_matmul2d [[function_constant(0)]];

// features of the vectors, without padding
constant constexpr int siren_position_width = 3;
constant constexpr int siren_first_width = 40;
constant constexpr int siren_second_width = 40;
// layer 0, first: float32 weight [output][input]
constant constexpr int siren_w0_inputs = 32; // 27, padded with zeros
constant constexpr int siren_w0_outputs = 48; // 40, padded with zeros
// layer 1, second: float32 weight [output][input]
constant constexpr int siren_w1_inputs = 64; // 40, padded with zeros
constant constexpr int siren_w1_outputs = 48; // 40, padded with zeros
// layer 2, distance: float32 weight [output][input]
constant constexpr int siren_w2_inputs = 64; // 43, padded with zeros
constant constexpr int siren_w2_outputs = 16; // 1, padded with zeros
// where the arrays begin in the weights, in bytes
constant constexpr int siren_t0_offset = 0; // encoded
constant constexpr int siren_w0_offset = 128; // first
constant constexpr int siren_b0_offset = 6272; // first
constant constexpr int siren_w1_offset = 6528; // second
constant constexpr int siren_b1_offset = 18816; // second
constant constexpr int siren_w2_offset = 19072; // distance
constant constexpr int siren_b2_offset = 23168; // distance
// points that a simdgroup evaluates together, and their threadgroup memory: operands
// of the widest layer or, after them, its sums
constant constexpr int siren_tile_points = 32;
constant constexpr int siren_tile_bytes = 8192;

// The weights of a layer as the host binds them: an MTLTensor that is a view of the weights'
// buffer, with the extents (inputs, outputs), innermost first.
#if SIREN_HAS_MATMUL2D
using siren_tensor = tensor<device float, dextents<int, 2>>;
#else
struct siren_tensor {}; // nothing reads it
#endif

struct siren_inputs {
    float3 position;
};

struct siren_outputs {
    float distance;
};

// The grid of points: the one at (x, y) has row y * width + x in the buffers.
struct siren_parameters {
    uint width;
    uint height;
};

struct siren_tensors {
    siren_tensor w0;
    siren_tensor w1;
    siren_tensor w2;
};

// result[o] = sum over i of weight[o][i] * operand[i], four products at a time, summed as float.
template <int INPUTS, int OUTPUTS>
inline void siren_multiply_plain(
    const thread float *operand, const device uchar *weight, thread float *result)
{
    const device float4 *row = (const device float4 *)weight;
    for (int o = 0; o < OUTPUTS; ++o) {
        float4 sum = float4(0.0f);
        for (int i = 0; i < INPUTS / 4; ++i) {
            const thread float *x = operand + 4 * i;
            sum += float4(row[i]) * float4(x[0], x[1], x[2], x[3]);
        }
        result[o] = (sum.x + sum.y) + (sum.z + sum.w);
        row += INPUTS / 4;
    }
}

#if SIREN_HAS_MATMUL2D

// The same product by matmul2d, in this thread alone: the only scope that fragment functions have.
template <int INPUTS, int OUTPUTS>
inline void siren_multiply_point(
    thread float *operand, siren_tensor right, thread float *result)
{
    // one row, OUTPUTS columns, INPUTS summed; the weights are transposed; full precision
    constexpr auto descriptor =
        mpp::tensor_ops::matmul2d_descriptor(1, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_thread> multiply;
    auto point = tensor(operand, extents<int, INPUTS, 1>());
    auto sums = tensor(result, extents<int, OUTPUTS, 1>());
    multiply.run(point, right, sums);
}

// Writes the calling lane's operand into its row of the tile.
template <int INPUTS>
inline void siren_set_row(
    threadgroup uchar *tile, uint lane, const thread float *operand)
{
    threadgroup float *row = (threadgroup float *)tile + lane * INPUTS;
    for (int i = 0; i < INPUTS; ++i) {
        row[i] = operand[i];
    }
}

// The product of all points of a simdgroup by matmul2d. Its sums lie spread over the lanes, each
// of which hands those that it has to `finish(output, point, sum)`; that may write to the tile.
template <int INPUTS, int OUTPUTS, typename Finish>
inline void siren_multiply_tile(
    threadgroup uchar *tile, siren_tensor right, Finish finish)
{
    constexpr auto descriptor = mpp::tensor_ops::matmul2d_descriptor(
        siren_tile_points, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_simdgroup> multiply;
    using Points = extents<int, INPUTS, siren_tile_points>;
    tensor<threadgroup float, Points, tensor_inline> points(
        (threadgroup float *)tile, Points());
    auto sums = multiply.template get_destination_cooperative_tensor<
        decltype(points), decltype(right), float>();
    simdgroup_barrier(mem_flags::mem_threadgroup); // all rows are written
    multiply.run(points, right, sums);
    simdgroup_barrier(mem_flags::mem_threadgroup); // all rows are read
#pragma unroll // its elements are registers, which only constant indices reach
    for (ushort e = 0; e < sums.get_capacity(); ++e) {
        if (sums.is_valid_element(e)) {
            const auto at = sums.get_multidimensional_index(e);
            finish(int(at[0]), int(at[1]), float(sums[e]));
        }
    }
}

// The same product where each lane needs all sums of its own point.
template <int INPUTS, int OUTPUTS>
inline void siren_multiply_rows(
    threadgroup uchar *tile, uint lane, siren_tensor right, thread float *result)
{
    threadgroup float *rows = (threadgroup float *)tile;
    siren_multiply_tile<INPUTS, OUTPUTS>(
        tile, right, [=](int o, int point, float sum) {
            rows[point * OUTPUTS + o] = sum;
        });
    simdgroup_barrier(mem_flags::mem_threadgroup); // all sums are written
    for (int o = 0; o < OUTPUTS; ++o) {
        result[o] = rows[int(lane) * OUTPUTS + o];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup); // and read: the tile is free
}

#endif // SIREN_HAS_MATMUL2D

// The product on the path that the pipeline was made for.
template <int INPUTS, int OUTPUTS>
inline void siren_multiply(
    thread float *operand, const device uchar *weight, siren_tensor bound, thread float *result)
{
#if SIREN_HAS_MATMUL2D
    if (siren_use_matmul2d) {
        siren_multiply_point<INPUTS, OUTPUTS>(operand, bound, result);
        return;
    }
#endif
    siren_multiply_plain<INPUTS, OUTPUTS>(operand, weight, result);
}

// The network for one point. Call it from any function of your own.
inline siren_outputs siren_evaluate(
    siren_inputs inputs, const device uchar *weights, siren_tensors tensors)
{
    const device float *t0 = (const device float *)(weights + siren_t0_offset);
    const device float *b0 = (const device float *)(weights + siren_b0_offset);
    const device float *b1 = (const device float *)(weights + siren_b1_offset);
    const device float *b2 = (const device float *)(weights + siren_b2_offset);
    siren_outputs outputs;

    // encoded: concatenation of 3, sin, cos (encoded)
    float encoded[siren_w0_inputs] = {};
    // elements 0 to 2
    for (int i = 0; i < 3; ++i) {
        encoded[i] = inputs.position[i];
    }
    // elements 3 to 14
    for (int i = 0; i < 12; ++i) {
        encoded[3 + i] = precise::sin(inputs.position[i / 4] * t0[i % 4]);
    }
    // elements 15 to 26
    for (int i = 0; i < 12; ++i) {
        encoded[15 + i] = precise::cos(inputs.position[i / 4] * t0[i % 4]);
    }

    // layer 0: linear 27 -> 40, sin (first)
    float first_sums[siren_w0_outputs];
    siren_multiply<siren_w0_inputs, siren_w0_outputs>(
        encoded, weights + siren_w0_offset, tensors.w0, first_sums);
    float first[siren_first_width];
    for (int i = 0; i < siren_first_width; ++i) {
        first[i] = precise::sin(3.0f * (first_sums[i] + b0[i]));
    }

    // layer 1: linear 40 -> 40, sin (second)
    float first_operand[siren_w1_inputs] = {};
    for (int i = 0; i < siren_first_width; ++i) {
        first_operand[i] = first[i];
    }
    float second_sums[siren_w1_outputs];
    siren_multiply<siren_w1_inputs, siren_w1_outputs>(
        first_operand, weights + siren_w1_offset, tensors.w1, second_sums);
    float second[siren_second_width];
    for (int i = 0; i < siren_second_width; ++i) {
        second[i] = precise::sin(second_sums[i] + b1[i]);
    }

    // joined: concatenation of 2 (joined)
    float joined[siren_w2_inputs] = {};
    // elements 0 to 39
    for (int i = 0; i < 40; ++i) {
        joined[i] = first[i] + second[i];
    }
    // elements 40 to 42
    for (int i = 0; i < 3; ++i) {
        joined[40 + i] = inputs.position[i];
    }

    // layer 2: linear 43 -> 1 (distance)
    float distance_sums[siren_w2_outputs];
    siren_multiply<siren_w2_inputs, siren_w2_outputs>(
        joined, weights + siren_w2_offset, tensors.w2, distance_sums);
    outputs.distance = distance_sums[0] + b2[0];
    return outputs;
}

#if SIREN_HAS_MATMUL2D

// The network for the points of a simdgroup, one a lane: all lanes have to call it,
// with siren_tile_bytes of threadgroup memory that no other simdgroup uses.
inline siren_outputs siren_evaluate_tile(
    siren_inputs inputs,
    const device uchar *weights,
    siren_tensors tensors,
    threadgroup uchar *tile,
    uint lane)
{
    const device float *t0 = (const device float *)(weights + siren_t0_offset);
    const device float *b0 = (const device float *)(weights + siren_b0_offset);
    const device float *b1 = (const device float *)(weights + siren_b1_offset);
    const device float *b2 = (const device float *)(weights + siren_b2_offset);
    siren_outputs outputs;

    // encoded: concatenation of 3, sin, cos (encoded)
    float encoded[siren_w0_inputs] = {};
    // elements 0 to 2
    for (int i = 0; i < 3; ++i) {
        encoded[i] = inputs.position[i];
    }
    // elements 3 to 14
    for (int i = 0; i < 12; ++i) {
        encoded[3 + i] = precise::sin(inputs.position[i / 4] * t0[i % 4]);
    }
    // elements 15 to 26
    for (int i = 0; i < 12; ++i) {
        encoded[15 + i] = precise::cos(inputs.position[i / 4] * t0[i % 4]);
    }

    // layer 0: linear 27 -> 40, sin (first)
    siren_set_row<siren_w0_inputs>(tile, lane, encoded);
    float first_sums[siren_w0_outputs];
    siren_multiply_rows<siren_w0_inputs, siren_w0_outputs>(tile, lane, tensors.w0, first_sums);
    float first[siren_first_width];
    for (int i = 0; i < siren_first_width; ++i) {
        first[i] = precise::sin(3.0f * (first_sums[i] + b0[i]));
    }

    // layer 1: linear 40 -> 40, sin (second)
    float first_operand[siren_w1_inputs] = {};
    for (int i = 0; i < siren_first_width; ++i) {
        first_operand[i] = first[i];
    }
    siren_set_row<siren_w1_inputs>(tile, lane, first_operand);
    float second_sums[siren_w1_outputs];
    siren_multiply_rows<siren_w1_inputs, siren_w1_outputs>(tile, lane, tensors.w1, second_sums);
    float second[siren_second_width];
    for (int i = 0; i < siren_second_width; ++i) {
        second[i] = precise::sin(second_sums[i] + b1[i]);
    }

    // joined: concatenation of 2 (joined)
    float joined[siren_w2_inputs] = {};
    // elements 0 to 39
    for (int i = 0; i < 40; ++i) {
        joined[i] = first[i] + second[i];
    }
    // elements 40 to 42
    for (int i = 0; i < 3; ++i) {
        joined[40 + i] = inputs.position[i];
    }

    // layer 2: linear 43 -> 1 (distance)
    siren_set_row<siren_w2_inputs>(tile, lane, joined);
    float distance_sums[siren_w2_outputs];
    siren_multiply_rows<siren_w2_inputs, siren_w2_outputs>(tile, lane, tensors.w2, distance_sums);
    outputs.distance = distance_sums[0] + b2[0];
    return outputs;
}

#endif // SIREN_HAS_MATMUL2D

// Reads a point's inputs: float rows, one a point.
inline void siren_load(thread siren_inputs &inputs, uint point, const device float *position)
{
    for (int i = 0; i < siren_position_width; ++i) {
        inputs.position[i] = position[point * siren_position_width + i];
    }
}

// Writes a point's outputs: float rows, one a point.
inline void siren_store(siren_outputs outputs, uint point, device float *distance)
{
    distance[point] = outputs.distance;
}

// Evaluates the network for a grid of points whose inputs are read from buffers:
// 128 threads a threadgroup, in one dimension, one for each point.
kernel void siren_compute(
    const device uchar *weights [[buffer(0)]],
#if SIREN_HAS_MATMUL2D
    siren_tensor w0 [[buffer(1)]],
    siren_tensor w1 [[buffer(2)]],
    siren_tensor w2 [[buffer(3)]],
#endif
    const device float *position [[buffer(4)]],
    device float *distance [[buffer(5)]],
    constant siren_parameters &parameters [[buffer(6)]],
    threadgroup uchar *tile [[threadgroup(0)]],
    uint point [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]])
{
    const uint count = parameters.width * parameters.height;
    // Lanes beyond the last point repeat it, as matmul2d needs all of a simdgroup.
    const uint shown = min(point, count - 1);
    siren_inputs inputs;
    siren_load(inputs, shown, position);
#if SIREN_HAS_MATMUL2D
    siren_tensors tensors = {w0, w1, w2};
#else
    siren_tensors tensors = {};
#endif
    siren_outputs outputs;
#if SIREN_HAS_MATMUL2D
    if (siren_use_matmul2d) {
        threadgroup uchar *rows = tile + simdgroup_index * siren_tile_bytes;
        outputs = siren_evaluate_tile(inputs, weights, tensors, rows, lane);
    } else
#endif
    {
        outputs = siren_evaluate(inputs, weights, tensors);
    }
    if (point < count) {
        siren_store(outputs, point, distance);
    }
}

struct siren_varyings {
    float4 position [[position]];
    float2 uv; // (0, 0) is the top left corner
};

// One triangle that covers the whole target: draw three vertices.
vertex siren_varyings siren_vertex(uint vertex_index [[vertex_id]])
{
    const float2 uv = float2(float(vertex_index / 2) * 2.0f, float(vertex_index % 2) * 2.0f);
    siren_varyings varyings;
    varyings.position = float4(uv.x * 2.0f - 1.0f, 1.0f - uv.y * 2.0f, 0.0f, 1.0f);
    varyings.uv = uv;
    return varyings;
}

struct siren_targets {
    float4 distance [[color(0)]];
};

// Evaluates the network for each pixel; its inputs come from buffers.
fragment siren_targets siren_fragment(
    siren_varyings varyings [[stage_in]],
    const device uchar *weights [[buffer(0)]],
#if SIREN_HAS_MATMUL2D
    siren_tensor w0 [[buffer(1)]],
    siren_tensor w1 [[buffer(2)]],
    siren_tensor w2 [[buffer(3)]],
#endif
    const device float *position [[buffer(4)]],
    constant siren_parameters &parameters [[buffer(5)]])
{
    const uint2 pixel = uint2(varyings.position.xy);
    const uint point = pixel.y * parameters.width + pixel.x;
    siren_inputs inputs;
    siren_load(inputs, point, position);
#if SIREN_HAS_MATMUL2D
    siren_tensors tensors = {w0, w1, w2};
#else
    siren_tensors tensors = {};
#endif
    const siren_outputs outputs = siren_evaluate(inputs, weights, tensors);
    siren_targets targets;
    targets.distance = float4(outputs.distance, 0.0f, 0.0f, 1.0f);
    return targets;
}
