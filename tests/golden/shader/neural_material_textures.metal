// neural_material.metal (Metal Shading Language 4.0)
// neural_material: base_color (3), normal (3) of latents (8).
// In a shader of your own, call neural_material_evaluate(inputs, weights); or use
// neural_material_compute and neural_material_texture_compute and neural_material_fragment.
// Weights and what they are multiplied with are half; all else is float.
// Functions of `precise` keep digits that fast math, the compiler's default, would lose.
// `weights` is the file neural_material.weights as it is, at an address that is a multiple of 128
// bytes.
// neural_material_use_matmul2d (function constant 0) picks matmul2d of Metal Performance
// Primitives, or arithmetic that every compiler of Metal has.

#include <metal_stdlib>
// Metal Performance Primitives has matmul2d from Metal 4 on; without it the plain path is compiled.
#if defined(__HAVE_TENSOR__) && \
    __has_include(<MetalPerformancePrimitives/MetalPerformancePrimitives.h>)
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
#define NEURAL_MATERIAL_HAS_MATMUL2D 1
#else
#define NEURAL_MATERIAL_HAS_MATMUL2D 0
#endif

using namespace metal;

// Picks the path when the pipeline is made: matmul2d where it is true, else plain arithmetic.
constant bool neural_material_use_matmul2d [[function_constant(0)]];

// features of the vectors, without padding
constant constexpr int neural_material_latents_width = 8;
constant constexpr int neural_material_first_width = 32;
constant constexpr int neural_material_second_width = 32;
constant constexpr int neural_material_last_width = 6;
constant constexpr int neural_material_base_color_width = 3;
constant constexpr int neural_material_normal_width = 3;
// layer 0, first: float16 weight [output][input]
constant constexpr int neural_material_w0_inputs = 32; // 8, padded with zeros
constant constexpr int neural_material_w0_outputs = 32;
// layer 1, second: float16 weight [output][input]
constant constexpr int neural_material_w1_inputs = 32;
constant constexpr int neural_material_w1_outputs = 32;
// layer 2, last: float16 weight [output][input]
constant constexpr int neural_material_w2_inputs = 32;
constant constexpr int neural_material_w2_outputs = 16; // 6, padded with zeros
// where the arrays begin in the weights, in bytes
constant constexpr int neural_material_w0_offset = 0; // first
constant constexpr int neural_material_b0_offset = 2048; // first
constant constexpr int neural_material_w1_offset = 2176; // second
constant constexpr int neural_material_b1_offset = 4224; // second
constant constexpr int neural_material_w2_offset = 4352; // last
constant constexpr int neural_material_b2_offset = 5376; // last
// points that a simdgroup evaluates together, and their threadgroup memory: operands
// of the widest layer or, after them, its sums
constant constexpr int neural_material_tile_points = 32;
constant constexpr int neural_material_tile_bytes = 2048;

struct neural_material_inputs {
    float latents[neural_material_latents_width];
};

struct neural_material_outputs {
    float3 base_color;
    float3 normal;
};

// The grid of points: the one at (x, y) has row y * width + x in the buffers.
struct neural_material_parameters {
    uint width;
    uint height;
};

// 1 / (1 + exp(-x)); the exponential is of what is not positive, so it cannot overflow.
inline float neural_material_sigmoid(float x)
{
    const float e = precise::exp(-abs(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// result[o] = sum over i of weight[o][i] * operand[i], four products at a time, summed as float.
template <int INPUTS, int OUTPUTS>
inline void neural_material_multiply_plain(
    const thread half *operand, const device uchar *weight, thread float *result)
{
    const device half4 *row = (const device half4 *)weight;
    for (int o = 0; o < OUTPUTS; ++o) {
        float4 sum = float4(0.0f);
        for (int i = 0; i < INPUTS / 4; ++i) {
            const thread half *x = operand + 4 * i;
            sum += float4(row[i]) * float4(x[0], x[1], x[2], x[3]);
        }
        result[o] = (sum.x + sum.y) + (sum.z + sum.w);
        row += INPUTS / 4;
    }
}

#if NEURAL_MATERIAL_HAS_MATMUL2D

// The tensor of a layer's weights, made in their buffer: extents are innermost first, so that
// [i, o] is weight[o][i]. matmul2d takes no tensor of const elements, though it only reads them.
template <int INPUTS, int OUTPUTS>
inline auto neural_material_weight(const device uchar *weight)
{
    return tensor<device half, extents<int, INPUTS, OUTPUTS>, tensor_inline>(
        (device half *)weight, extents<int, INPUTS, OUTPUTS>());
}

// The same product by matmul2d, in this thread alone: the only scope that fragment functions have.
template <int INPUTS, int OUTPUTS>
inline void neural_material_multiply_point(
    thread half *operand, const device uchar *weight, thread float *result)
{
    // one row, OUTPUTS columns, INPUTS summed; the weights are transposed; full precision
    constexpr auto descriptor =
        mpp::tensor_ops::matmul2d_descriptor(1, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_thread> multiply;
    auto point = tensor(operand, extents<int, INPUTS, 1>());
    auto right = neural_material_weight<INPUTS, OUTPUTS>(weight);
    auto sums = tensor(result, extents<int, OUTPUTS, 1>());
    multiply.run(point, right, sums);
}

// Writes the calling lane's operand into its row of the tile.
template <int INPUTS>
inline void neural_material_set_row(
    threadgroup uchar *tile, uint lane, const thread half *operand)
{
    threadgroup half *row = (threadgroup half *)tile + lane * INPUTS;
    for (int i = 0; i < INPUTS; ++i) {
        row[i] = operand[i];
    }
}

// The product of all points of a simdgroup by matmul2d. Its sums lie spread over the lanes, each
// of which hands those that it has to `finish(output, point, sum)`; that may write to the tile.
template <int INPUTS, int OUTPUTS, typename Finish>
inline void neural_material_multiply_tile(
    threadgroup uchar *tile, const device uchar *weight, Finish finish)
{
    constexpr auto descriptor = mpp::tensor_ops::matmul2d_descriptor(
        neural_material_tile_points, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_simdgroup> multiply;
    using Points = extents<int, INPUTS, neural_material_tile_points>;
    tensor<threadgroup half, Points, tensor_inline> points(
        (threadgroup half *)tile, Points());
    auto right = neural_material_weight<INPUTS, OUTPUTS>(weight);
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
inline void neural_material_multiply_rows(
    threadgroup uchar *tile, uint lane, const device uchar *weight, thread float *result)
{
    threadgroup float *rows = (threadgroup float *)tile;
    neural_material_multiply_tile<INPUTS, OUTPUTS>(
        tile, weight, [=](int o, int point, float sum) {
            rows[point * OUTPUTS + o] = sum;
        });
    simdgroup_barrier(mem_flags::mem_threadgroup); // all sums are written
    for (int o = 0; o < OUTPUTS; ++o) {
        result[o] = rows[int(lane) * OUTPUTS + o];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup); // and read: the tile is free
}

#endif // NEURAL_MATERIAL_HAS_MATMUL2D

// The product on the path that the pipeline was made for.
template <int INPUTS, int OUTPUTS>
inline void neural_material_multiply(
    thread half *operand, const device uchar *weight, thread float *result)
{
#if NEURAL_MATERIAL_HAS_MATMUL2D
    if (neural_material_use_matmul2d) {
        neural_material_multiply_point<INPUTS, OUTPUTS>(operand, weight, result);
        return;
    }
#endif
    neural_material_multiply_plain<INPUTS, OUTPUTS>(operand, weight, result);
}

// The network for one point. Call it from any function of your own.
inline neural_material_outputs neural_material_evaluate(
    neural_material_inputs inputs, const device uchar *weights)
{
    const device float *b0 = (const device float *)(weights + neural_material_b0_offset);
    const device float *b1 = (const device float *)(weights + neural_material_b1_offset);
    const device float *b2 = (const device float *)(weights + neural_material_b2_offset);
    neural_material_outputs outputs;

    // layer 0: linear 8 -> 32, relu (first)
    half latents_operand[neural_material_w0_inputs] = {};
    for (int i = 0; i < neural_material_latents_width; ++i) {
        latents_operand[i] = half(inputs.latents[i]);
    }
    float first_sums[neural_material_w0_outputs];
    neural_material_multiply<neural_material_w0_inputs, neural_material_w0_outputs>(
        latents_operand, weights + neural_material_w0_offset, first_sums);
    half first[neural_material_w1_inputs] = {};
    for (int i = 0; i < neural_material_first_width; ++i) {
        first[i] = half(max(first_sums[i] + b0[i], 0.0f));
    }

    // layer 1: linear 32 -> 32, relu (second)
    float second_sums[neural_material_w1_outputs];
    neural_material_multiply<neural_material_w1_inputs, neural_material_w1_outputs>(
        first, weights + neural_material_w1_offset, second_sums);
    half second[neural_material_w2_inputs] = {};
    for (int i = 0; i < neural_material_second_width; ++i) {
        second[i] = half(max(second_sums[i] + b1[i], 0.0f));
    }

    // layer 2: linear 32 -> 6 (last)
    float last_sums[neural_material_w2_outputs];
    neural_material_multiply<neural_material_w2_inputs, neural_material_w2_outputs>(
        second, weights + neural_material_w2_offset, last_sums);
    float last[neural_material_last_width];
    for (int i = 0; i < neural_material_last_width; ++i) {
        last[i] = last_sums[i] + b2[i];
    }

    // base_color: sigmoid (base_color)
    for (int i = 0; i < neural_material_base_color_width; ++i) {
        outputs.base_color[i] = neural_material_sigmoid(last[i]);
    }

    // squared_length: sum of 3 (squared_length)
    float squared_length = 0.0f;
    for (int j = 0; j < 3; ++j) {
        squared_length += last[3 + j] * last[3 + j];
    }

    // normal: rsqrt (normal)
    for (int i = 0; i < neural_material_normal_width; ++i) {
        outputs.normal[i] = last[3 + i] * precise::rsqrt(squared_length + 0.001f);
    }
    return outputs;
}

#if NEURAL_MATERIAL_HAS_MATMUL2D

// The network for the points of a simdgroup, one a lane: all lanes have to call it,
// with neural_material_tile_bytes of threadgroup memory that no other simdgroup uses.
inline neural_material_outputs neural_material_evaluate_tile(
    neural_material_inputs inputs, const device uchar *weights, threadgroup uchar *tile, uint lane)
{
    const device float *b0 = (const device float *)(weights + neural_material_b0_offset);
    const device float *b1 = (const device float *)(weights + neural_material_b1_offset);
    const device float *b2 = (const device float *)(weights + neural_material_b2_offset);
    neural_material_outputs outputs;

    // layer 0: linear 8 -> 32, relu (first)
    half latents_operand[neural_material_w0_inputs] = {};
    for (int i = 0; i < neural_material_latents_width; ++i) {
        latents_operand[i] = half(inputs.latents[i]);
    }
    neural_material_set_row<neural_material_w0_inputs>(tile, lane, latents_operand);
    neural_material_multiply_tile<neural_material_w0_inputs, neural_material_w0_outputs>(
        tile, weights + neural_material_w0_offset, [=](int i, int point, float sum) {
            const half value = i < neural_material_first_width
                ? half(max(sum + b0[i], 0.0f)) : half(0);
            ((threadgroup half *)tile)[point * neural_material_w1_inputs + i] = value;
        });

    // layer 1: linear 32 -> 32, relu (second)
    neural_material_multiply_tile<neural_material_w1_inputs, neural_material_w1_outputs>(
        tile, weights + neural_material_w1_offset, [=](int i, int point, float sum) {
            const half value = i < neural_material_second_width
                ? half(max(sum + b1[i], 0.0f)) : half(0);
            ((threadgroup half *)tile)[point * neural_material_w2_inputs + i] = value;
        });

    // layer 2: linear 32 -> 6 (last)
    float last_sums[neural_material_w2_outputs];
    neural_material_multiply_rows<neural_material_w2_inputs, neural_material_w2_outputs>(
        tile, lane, weights + neural_material_w2_offset, last_sums);
    float last[neural_material_last_width];
    for (int i = 0; i < neural_material_last_width; ++i) {
        last[i] = last_sums[i] + b2[i];
    }

    // base_color: sigmoid (base_color)
    for (int i = 0; i < neural_material_base_color_width; ++i) {
        outputs.base_color[i] = neural_material_sigmoid(last[i]);
    }

    // squared_length: sum of 3 (squared_length)
    float squared_length = 0.0f;
    for (int j = 0; j < 3; ++j) {
        squared_length += last[3 + j] * last[3 + j];
    }

    // normal: rsqrt (normal)
    for (int i = 0; i < neural_material_normal_width; ++i) {
        outputs.normal[i] = last[3 + i] * precise::rsqrt(squared_length + 0.001f);
    }
    return outputs;
}

#endif // NEURAL_MATERIAL_HAS_MATMUL2D

// Reads a point's inputs: float rows, one a point.
inline void neural_material_load(
    thread neural_material_inputs &inputs, uint point, const device float *latents)
{
    for (int i = 0; i < neural_material_latents_width; ++i) {
        inputs.latents[i] = latents[point * neural_material_latents_width + i];
    }
}

// Samples a point's inputs from the latent textures; the sampler is to be linear and repeat.
inline void neural_material_sample(
    thread neural_material_inputs &inputs,
    float2 uv,
    texture2d<float> latents_0,
    texture2d<float> latents_1,
    sampler latent_sampler)
{
    const float4 texel_0 = latents_0.sample(latent_sampler, uv, level(0.0f));
    inputs.latents[0] = texel_0.x;
    inputs.latents[1] = texel_0.y;
    inputs.latents[2] = texel_0.z;
    inputs.latents[3] = texel_0.w;
    const float4 texel_1 = latents_1.sample(latent_sampler, uv, level(0.0f));
    inputs.latents[4] = texel_1.x;
    inputs.latents[5] = texel_1.y;
    inputs.latents[6] = texel_1.z;
    inputs.latents[7] = texel_1.w;
}

// Writes a point's outputs: float rows, one a point.
inline void neural_material_store(
    neural_material_outputs outputs, uint point, device float *base_color, device float *normal)
{
    for (int i = 0; i < neural_material_base_color_width; ++i) {
        base_color[point * neural_material_base_color_width + i] = outputs.base_color[i];
    }
    for (int i = 0; i < neural_material_normal_width; ++i) {
        normal[point * neural_material_normal_width + i] = outputs.normal[i];
    }
}

// Evaluates the network for a grid of points whose inputs are read from buffers:
// 128 threads a threadgroup, in one dimension, one for each point.
kernel void neural_material_compute(
    const device uchar *weights [[buffer(0)]],
    const device float *latents [[buffer(1)]],
    device float *base_color [[buffer(2)]],
    device float *normal [[buffer(3)]],
    constant neural_material_parameters &parameters [[buffer(4)]],
    threadgroup uchar *tile [[threadgroup(0)]],
    uint point [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]])
{
    const uint count = parameters.width * parameters.height;
    // Lanes beyond the last point repeat it, as matmul2d needs all of a simdgroup.
    const uint shown = min(point, count - 1);
    neural_material_inputs inputs;
    neural_material_load(inputs, shown, latents);
    neural_material_outputs outputs;
#if NEURAL_MATERIAL_HAS_MATMUL2D
    if (neural_material_use_matmul2d) {
        threadgroup uchar *rows = tile + simdgroup_index * neural_material_tile_bytes;
        outputs = neural_material_evaluate_tile(inputs, weights, rows, lane);
    } else
#endif
    {
        outputs = neural_material_evaluate(inputs, weights);
    }
    if (point < count) {
        neural_material_store(outputs, point, base_color, normal);
    }
}

// Evaluates the network for a grid of points whose inputs are sampled from the textures at pixel
// centres:
// 128 threads a threadgroup, in one dimension, one for each point.
kernel void neural_material_texture_compute(
    const device uchar *weights [[buffer(0)]],
    device float *base_color [[buffer(1)]],
    device float *normal [[buffer(2)]],
    constant neural_material_parameters &parameters [[buffer(3)]],
    texture2d<float> latents_0 [[texture(0)]],
    texture2d<float> latents_1 [[texture(1)]],
    sampler latent_sampler [[sampler(0)]],
    threadgroup uchar *tile [[threadgroup(0)]],
    uint point [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]])
{
    const uint count = parameters.width * parameters.height;
    // Lanes beyond the last point repeat it, as matmul2d needs all of a simdgroup.
    const uint shown = min(point, count - 1);
    neural_material_inputs inputs;
    const float2 pixel = float2(float(shown % parameters.width), float(shown / parameters.width));
    const float2 uv = (pixel + 0.5f) / float2(float(parameters.width), float(parameters.height));
    neural_material_sample(inputs, uv, latents_0, latents_1, latent_sampler);
    neural_material_outputs outputs;
#if NEURAL_MATERIAL_HAS_MATMUL2D
    if (neural_material_use_matmul2d) {
        threadgroup uchar *rows = tile + simdgroup_index * neural_material_tile_bytes;
        outputs = neural_material_evaluate_tile(inputs, weights, rows, lane);
    } else
#endif
    {
        outputs = neural_material_evaluate(inputs, weights);
    }
    if (point < count) {
        neural_material_store(outputs, point, base_color, normal);
    }
}

struct neural_material_varyings {
    float4 position [[position]];
    float2 uv; // (0, 0) is the top left corner
};

// One triangle that covers the whole target: draw three vertices.
vertex neural_material_varyings neural_material_vertex(uint vertex_index [[vertex_id]])
{
    const float2 uv = float2(float(vertex_index / 2) * 2.0f, float(vertex_index % 2) * 2.0f);
    neural_material_varyings varyings;
    varyings.position = float4(uv.x * 2.0f - 1.0f, 1.0f - uv.y * 2.0f, 0.0f, 1.0f);
    varyings.uv = uv;
    return varyings;
}

struct neural_material_targets {
    float4 base_color [[color(0)]];
    float4 normal [[color(1)]];
};

// Evaluates the network for each pixel; its inputs come from the textures.
fragment neural_material_targets neural_material_fragment(
    neural_material_varyings varyings [[stage_in]],
    const device uchar *weights [[buffer(0)]],
    texture2d<float> latents_0 [[texture(0)]],
    texture2d<float> latents_1 [[texture(1)]],
    sampler latent_sampler [[sampler(0)]])
{
    neural_material_inputs inputs;
    neural_material_sample(inputs, varyings.uv, latents_0, latents_1, latent_sampler);
    const neural_material_outputs outputs = neural_material_evaluate(inputs, weights);
    neural_material_targets targets;
    targets.base_color = float4(outputs.base_color, 1.0f);
    targets.normal = float4(outputs.normal, 1.0f);
    return targets;
}
