// radiance_cache.metal (Metal Shading Language 4.0)
// radiance_cache: radiance (3), features (24), weight (1) of position (3), roughness (1), light
// (5).
// In a shader of your own, call radiance_cache_evaluate(inputs, weights); or use
// radiance_cache_compute and radiance_cache_fragment.
// Weights are int8 with a float scale for each output, what they are multiplied with is half; all
// else is float.
// Functions of `precise` keep digits that fast math, the compiler's default, would lose.
// `weights` is the file radiance_cache.weights as it is, at an address that is a multiple of 128
// bytes.
// radiance_cache_use_matmul2d (function constant 0) picks matmul2d of Metal Performance Primitives,
// or arithmetic that every compiler of Metal has.

#include <metal_stdlib>
// Metal Performance Primitives has matmul2d from Metal 4 on; without it the plain path is compiled.
#if defined(__HAVE_TENSOR__) && \
    __has_include(<MetalPerformancePrimitives/MetalPerformancePrimitives.h>)
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
#define RADIANCE_CACHE_HAS_MATMUL2D 1
#else
#define RADIANCE_CACHE_HAS_MATMUL2D 0
#endif

using namespace metal;

// Picks the path when the pipeline is made: matmul2d where it is true, else plain arithmetic.
constant bool radiance_cache_use_matmul2d [[function_constant(0)]];

// features of the vectors, without padding
constant constexpr int radiance_cache_position_width = 3;
constant constexpr int radiance_cache_light_width = 5;
constant constexpr int radiance_cache_hidden_width = 24;
constant constexpr int radiance_cache_features_width = 24;
constant constexpr int radiance_cache_radiance_width = 3;
// layer 0, hidden: int8 weight [output][input]
constant constexpr int radiance_cache_w0_inputs = 32; // 9, padded with zeros
constant constexpr int radiance_cache_w0_outputs = 32; // 24, padded with zeros
// layer 1, features: int8 weight [output][input]
constant constexpr int radiance_cache_w1_inputs = 32; // 24, padded with zeros
constant constexpr int radiance_cache_w1_outputs = 32; // 24, padded with zeros
// layer 2, radiance: int8 weight [output][input]
constant constexpr int radiance_cache_w2_inputs = 32; // 24, padded with zeros
constant constexpr int radiance_cache_w2_outputs = 16; // 3, padded with zeros
// layer 3, weight: int8 weight [output][input]
constant constexpr int radiance_cache_w3_inputs = 32; // 24, padded with zeros
constant constexpr int radiance_cache_w3_outputs = 16; // 1, padded with zeros
// where the arrays begin in the weights, in bytes
constant constexpr int radiance_cache_w0_offset = 0; // hidden
constant constexpr int radiance_cache_s0_offset = 1024; // hidden
constant constexpr int radiance_cache_b0_offset = 1152; // hidden
constant constexpr int radiance_cache_w1_offset = 1280; // features
constant constexpr int radiance_cache_s1_offset = 2304; // features
constant constexpr int radiance_cache_b1_offset = 2432; // features
constant constexpr int radiance_cache_w2_offset = 2560; // radiance
constant constexpr int radiance_cache_s2_offset = 3072; // radiance
constant constexpr int radiance_cache_b2_offset = 3200; // radiance
constant constexpr int radiance_cache_w3_offset = 3328; // weight
constant constexpr int radiance_cache_s3_offset = 3840; // weight
constant constexpr int radiance_cache_b3_offset = 3968; // weight
// points that a simdgroup evaluates together, and their threadgroup memory: operands
// of the widest layer or, after them, its sums
constant constexpr int radiance_cache_tile_points = 32;
constant constexpr int radiance_cache_tile_bytes = 4096;

struct radiance_cache_inputs {
    float3 position;
    float roughness;
    float light[radiance_cache_light_width];
};

struct radiance_cache_outputs {
    float3 radiance;
    float features[radiance_cache_features_width];
    float weight;
};

// The grid of points: the one at (x, y) has row y * width + x in the buffers.
struct radiance_cache_parameters {
    uint width;
    uint height;
};

// 1 / (1 + exp(-x)); the exponential is of what is not positive, so it cannot overflow.
inline float radiance_cache_sigmoid(float x)
{
    const float e = precise::exp(-abs(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// x times its sigmoid.
inline float radiance_cache_silu(float x)
{
    return x * radiance_cache_sigmoid(x);
}

// log(1 + exp(x)), without overflow: log(1 + e) is 2 atanh(e / (2 + e)), whose series ends
// early as e <= 1.
inline float radiance_cache_softplus(float x)
{
    const float e = precise::exp(-abs(x));
    const float s = e / (2.0f + e);
    const float s2 = s * s;
    float series = 1.0f / 13.0f;
    series = series * s2 + 1.0f / 11.0f;
    series = series * s2 + 1.0f / 9.0f;
    series = series * s2 + 1.0f / 7.0f;
    series = series * s2 + 1.0f / 5.0f;
    series = series * s2 + 1.0f / 3.0f;
    series = series * s2 + 1.0f;
    return max(x, 0.0f) + 2.0f * s * series;
}

// The error function where |x| <= 1: x times a polynomial in x * x that was fitted to
// erf(x) / x for the smallest largest relative error, 1.3e-9 before rounding.
inline float radiance_cache_erf_near(float x)
{
    const float s = x * x;
    float p = 7.8538577e-05f;
    p = p * s - 0.00080101925f;
    p = p * s + 0.0051883277f;
    p = p * s - 0.026853811f;
    p = p * s + 0.112835854f;
    p = p * s - 0.37612626f;
    p = p * s + 1.1283791f;
    return x * p;
}

// 1 - erf(z) where z >= 1: t * exp(-z * z) times a polynomial in t = 1 / (1 + z / 2) that
// was fitted for the smallest largest relative error, 1.1e-8 before rounding.
inline float radiance_cache_erfc_far(float z)
{
    const float t = 1.0f / (1.0f + 0.5f * z);
    float p = 0.093031824f;
    p = p * t - 0.22484781f;
    p = p * t + 0.080647431f;
    p = p * t + 0.062252266f;
    p = p * t + 0.1782823f;
    p = p * t + 0.2470785f;
    p = p * t + 0.28202549f;
    p = p * t + 0.28209913f;
    return t * precise::exp(-z * z) * p;
}

// x times the normal distribution's share below x.
inline float radiance_cache_gelu(float x)
{
    const float z = abs(x) * 0.70710678f;
    const float above = z <= 1.0f ? 1.0f - radiance_cache_erf_near(z) : radiance_cache_erfc_far(z);
    return 0.5f * x * (x < 0.0f ? above : 2.0f - above);
}

// result[o] = sum over i of weight[o][i] * operand[i], four products at a time, summed as float.
template <int INPUTS, int OUTPUTS>
inline void radiance_cache_multiply_plain(
    const thread half *operand, const device uchar *weight, thread float *result)
{
    const device char4 *row = (const device char4 *)weight;
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

#if RADIANCE_CACHE_HAS_MATMUL2D

// The tensor of a layer's weights, made in their buffer: extents are innermost first, so that
// [i, o] is weight[o][i]. matmul2d takes no tensor of const elements, though it only reads them.
template <int INPUTS, int OUTPUTS>
inline auto radiance_cache_weight(const device uchar *weight)
{
    return tensor<device int8_t, extents<int, INPUTS, OUTPUTS>, tensor_inline>(
        (device int8_t *)weight, extents<int, INPUTS, OUTPUTS>());
}

// The same product by matmul2d, in this thread alone: the only scope that fragment functions have.
template <int INPUTS, int OUTPUTS>
inline void radiance_cache_multiply_point(
    thread half *operand, const device uchar *weight, thread float *result)
{
    // one row, OUTPUTS columns, INPUTS summed; the weights are transposed; full precision
    constexpr auto descriptor =
        mpp::tensor_ops::matmul2d_descriptor(1, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_thread> multiply;
    auto point = tensor(operand, extents<int, INPUTS, 1>());
    auto right = radiance_cache_weight<INPUTS, OUTPUTS>(weight);
    auto sums = tensor(result, extents<int, OUTPUTS, 1>());
    multiply.run(point, right, sums);
}

// Writes the calling lane's operand into its row of the tile.
template <int INPUTS>
inline void radiance_cache_set_row(
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
inline void radiance_cache_multiply_tile(
    threadgroup uchar *tile, const device uchar *weight, Finish finish)
{
    constexpr auto descriptor = mpp::tensor_ops::matmul2d_descriptor(
        radiance_cache_tile_points, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_simdgroup> multiply;
    using Points = extents<int, INPUTS, radiance_cache_tile_points>;
    tensor<threadgroup half, Points, tensor_inline> points(
        (threadgroup half *)tile, Points());
    auto right = radiance_cache_weight<INPUTS, OUTPUTS>(weight);
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
inline void radiance_cache_multiply_rows(
    threadgroup uchar *tile, uint lane, const device uchar *weight, thread float *result)
{
    threadgroup float *rows = (threadgroup float *)tile;
    radiance_cache_multiply_tile<INPUTS, OUTPUTS>(
        tile, weight, [=](int o, int point, float sum) {
            rows[point * OUTPUTS + o] = sum;
        });
    simdgroup_barrier(mem_flags::mem_threadgroup); // all sums are written
    for (int o = 0; o < OUTPUTS; ++o) {
        result[o] = rows[int(lane) * OUTPUTS + o];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup); // and read: the tile is free
}

#endif // RADIANCE_CACHE_HAS_MATMUL2D

// The product on the path that the pipeline was made for.
template <int INPUTS, int OUTPUTS>
inline void radiance_cache_multiply(
    thread half *operand, const device uchar *weight, thread float *result)
{
#if RADIANCE_CACHE_HAS_MATMUL2D
    if (radiance_cache_use_matmul2d) {
        radiance_cache_multiply_point<INPUTS, OUTPUTS>(operand, weight, result);
        return;
    }
#endif
    radiance_cache_multiply_plain<INPUTS, OUTPUTS>(operand, weight, result);
}

// The network for one point. Call it from any function of your own.
inline radiance_cache_outputs radiance_cache_evaluate(
    radiance_cache_inputs inputs, const device uchar *weights)
{
    const device float *s0 = (const device float *)(weights + radiance_cache_s0_offset);
    const device float *b0 = (const device float *)(weights + radiance_cache_b0_offset);
    const device float *s1 = (const device float *)(weights + radiance_cache_s1_offset);
    const device float *b1 = (const device float *)(weights + radiance_cache_b1_offset);
    const device float *s2 = (const device float *)(weights + radiance_cache_s2_offset);
    const device float *b2 = (const device float *)(weights + radiance_cache_b2_offset);
    const device float *s3 = (const device float *)(weights + radiance_cache_s3_offset);
    const device float *b3 = (const device float *)(weights + radiance_cache_b3_offset);
    radiance_cache_outputs outputs;

    // joined: concatenation of 3 (joined)
    half joined[radiance_cache_w0_inputs] = {};
    // elements 0 to 2
    for (int i = 0; i < 3; ++i) {
        joined[i] = half(inputs.position[i]);
    }
    // element 3
    joined[3] = half(inputs.roughness);
    // elements 4 to 8
    for (int i = 0; i < 5; ++i) {
        joined[4 + i] = half(inputs.light[i]);
    }

    // layer 0: linear 9 -> 24, silu (hidden)
    float hidden_sums[radiance_cache_w0_outputs];
    radiance_cache_multiply<radiance_cache_w0_inputs, radiance_cache_w0_outputs>(
        joined, weights + radiance_cache_w0_offset, hidden_sums);
    half hidden[radiance_cache_w1_inputs] = {};
    for (int i = 0; i < radiance_cache_hidden_width; ++i) {
        hidden[i] = half(radiance_cache_silu(s0[i] * hidden_sums[i] + b0[i]));
    }

    // layer 1: linear 24 -> 24, gelu (features)
    float features_sums[radiance_cache_w1_outputs];
    radiance_cache_multiply<radiance_cache_w1_inputs, radiance_cache_w1_outputs>(
        hidden, weights + radiance_cache_w1_offset, features_sums);
    for (int i = 0; i < radiance_cache_features_width; ++i) {
        outputs.features[i] = radiance_cache_gelu(s1[i] * features_sums[i] + b1[i]);
    }

    // layer 2: linear 24 -> 3, softplus (radiance)
    half features_operand[radiance_cache_w2_inputs] = {};
    for (int i = 0; i < radiance_cache_features_width; ++i) {
        features_operand[i] = half(outputs.features[i]);
    }
    float radiance_sums[radiance_cache_w2_outputs];
    radiance_cache_multiply<radiance_cache_w2_inputs, radiance_cache_w2_outputs>(
        features_operand, weights + radiance_cache_w2_offset, radiance_sums);
    for (int i = 0; i < radiance_cache_radiance_width; ++i) {
        outputs.radiance[i] = radiance_cache_softplus(s2[i] * radiance_sums[i] + b2[i]);
    }

    // layer 3: linear 24 -> 1, sigmoid (weight)
    float weight_sums[radiance_cache_w3_outputs];
    radiance_cache_multiply<radiance_cache_w3_inputs, radiance_cache_w3_outputs>(
        features_operand, weights + radiance_cache_w3_offset, weight_sums);
    outputs.weight = radiance_cache_sigmoid(s3[0] * weight_sums[0] + b3[0]);
    return outputs;
}

#if RADIANCE_CACHE_HAS_MATMUL2D

// The network for the points of a simdgroup, one a lane: all lanes have to call it,
// with radiance_cache_tile_bytes of threadgroup memory that no other simdgroup uses.
inline radiance_cache_outputs radiance_cache_evaluate_tile(
    radiance_cache_inputs inputs, const device uchar *weights, threadgroup uchar *tile, uint lane)
{
    const device float *s0 = (const device float *)(weights + radiance_cache_s0_offset);
    const device float *b0 = (const device float *)(weights + radiance_cache_b0_offset);
    const device float *s1 = (const device float *)(weights + radiance_cache_s1_offset);
    const device float *b1 = (const device float *)(weights + radiance_cache_b1_offset);
    const device float *s2 = (const device float *)(weights + radiance_cache_s2_offset);
    const device float *b2 = (const device float *)(weights + radiance_cache_b2_offset);
    const device float *s3 = (const device float *)(weights + radiance_cache_s3_offset);
    const device float *b3 = (const device float *)(weights + radiance_cache_b3_offset);
    radiance_cache_outputs outputs;

    // joined: concatenation of 3 (joined)
    half joined[radiance_cache_w0_inputs] = {};
    // elements 0 to 2
    for (int i = 0; i < 3; ++i) {
        joined[i] = half(inputs.position[i]);
    }
    // element 3
    joined[3] = half(inputs.roughness);
    // elements 4 to 8
    for (int i = 0; i < 5; ++i) {
        joined[4 + i] = half(inputs.light[i]);
    }

    // layer 0: linear 9 -> 24, silu (hidden)
    radiance_cache_set_row<radiance_cache_w0_inputs>(tile, lane, joined);
    radiance_cache_multiply_tile<radiance_cache_w0_inputs, radiance_cache_w0_outputs>(
        tile, weights + radiance_cache_w0_offset, [=](int i, int point, float sum) {
            const half value = i < radiance_cache_hidden_width
                ? half(radiance_cache_silu(s0[i] * sum + b0[i])) : half(0);
            ((threadgroup half *)tile)[point * radiance_cache_w1_inputs + i] = value;
        });

    // layer 1: linear 24 -> 24, gelu (features)
    float features_sums[radiance_cache_w1_outputs];
    radiance_cache_multiply_rows<radiance_cache_w1_inputs, radiance_cache_w1_outputs>(
        tile, lane, weights + radiance_cache_w1_offset, features_sums);
    for (int i = 0; i < radiance_cache_features_width; ++i) {
        outputs.features[i] = radiance_cache_gelu(s1[i] * features_sums[i] + b1[i]);
    }

    // layer 2: linear 24 -> 3, softplus (radiance)
    half features_operand[radiance_cache_w2_inputs] = {};
    for (int i = 0; i < radiance_cache_features_width; ++i) {
        features_operand[i] = half(outputs.features[i]);
    }
    radiance_cache_set_row<radiance_cache_w2_inputs>(tile, lane, features_operand);
    float radiance_sums[radiance_cache_w2_outputs];
    radiance_cache_multiply_rows<radiance_cache_w2_inputs, radiance_cache_w2_outputs>(
        tile, lane, weights + radiance_cache_w2_offset, radiance_sums);
    for (int i = 0; i < radiance_cache_radiance_width; ++i) {
        outputs.radiance[i] = radiance_cache_softplus(s2[i] * radiance_sums[i] + b2[i]);
    }

    // layer 3: linear 24 -> 1, sigmoid (weight)
    radiance_cache_set_row<radiance_cache_w3_inputs>(tile, lane, features_operand);
    float weight_sums[radiance_cache_w3_outputs];
    radiance_cache_multiply_rows<radiance_cache_w3_inputs, radiance_cache_w3_outputs>(
        tile, lane, weights + radiance_cache_w3_offset, weight_sums);
    outputs.weight = radiance_cache_sigmoid(s3[0] * weight_sums[0] + b3[0]);
    return outputs;
}

#endif // RADIANCE_CACHE_HAS_MATMUL2D

// Reads a point's inputs: float rows, one a point.
inline void radiance_cache_load(
    thread radiance_cache_inputs &inputs,
    uint point,
    const device float *position,
    const device float *roughness,
    const device float *light)
{
    for (int i = 0; i < radiance_cache_position_width; ++i) {
        inputs.position[i] = position[point * radiance_cache_position_width + i];
    }
    inputs.roughness = roughness[point];
    for (int i = 0; i < radiance_cache_light_width; ++i) {
        inputs.light[i] = light[i];
    }
}

// Writes a point's outputs: float rows, one a point.
inline void radiance_cache_store(
    radiance_cache_outputs outputs,
    uint point,
    device float *radiance,
    device float *features,
    device float *weight)
{
    for (int i = 0; i < radiance_cache_radiance_width; ++i) {
        radiance[point * radiance_cache_radiance_width + i] = outputs.radiance[i];
    }
    for (int i = 0; i < radiance_cache_features_width; ++i) {
        features[point * radiance_cache_features_width + i] = outputs.features[i];
    }
    weight[point] = outputs.weight;
}

// Evaluates the network for a grid of points whose inputs are read from buffers:
// 128 threads a threadgroup, in one dimension, one for each point.
kernel void radiance_cache_compute(
    const device uchar *weights [[buffer(0)]],
    const device float *position [[buffer(1)]],
    const device float *roughness [[buffer(2)]],
    const device float *light [[buffer(3)]],
    device float *radiance [[buffer(4)]],
    device float *features [[buffer(5)]],
    device float *weight [[buffer(6)]],
    constant radiance_cache_parameters &parameters [[buffer(7)]],
    threadgroup uchar *tile [[threadgroup(0)]],
    uint point [[thread_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]],
    uint simdgroup_index [[simdgroup_index_in_threadgroup]])
{
    const uint count = parameters.width * parameters.height;
    // Lanes beyond the last point repeat it, as matmul2d needs all of a simdgroup.
    const uint shown = min(point, count - 1);
    radiance_cache_inputs inputs;
    radiance_cache_load(inputs, shown, position, roughness, light);
    radiance_cache_outputs outputs;
#if RADIANCE_CACHE_HAS_MATMUL2D
    if (radiance_cache_use_matmul2d) {
        threadgroup uchar *rows = tile + simdgroup_index * radiance_cache_tile_bytes;
        outputs = radiance_cache_evaluate_tile(inputs, weights, rows, lane);
    } else
#endif
    {
        outputs = radiance_cache_evaluate(inputs, weights);
    }
    if (point < count) {
        radiance_cache_store(outputs, point, radiance, features, weight);
    }
}

struct radiance_cache_varyings {
    float4 position [[position]];
    float2 uv; // (0, 0) is the top left corner
};

// One triangle that covers the whole target: draw three vertices.
vertex radiance_cache_varyings radiance_cache_vertex(uint vertex_index [[vertex_id]])
{
    const float2 uv = float2(float(vertex_index / 2) * 2.0f, float(vertex_index % 2) * 2.0f);
    radiance_cache_varyings varyings;
    varyings.position = float4(uv.x * 2.0f - 1.0f, 1.0f - uv.y * 2.0f, 0.0f, 1.0f);
    varyings.uv = uv;
    return varyings;
}

struct radiance_cache_targets {
    float4 radiance [[color(0)]];
    float4 features_0 [[color(1)]];
    float4 features_4 [[color(2)]];
    float4 features_8 [[color(3)]];
    float4 features_12 [[color(4)]];
    float4 features_16 [[color(5)]];
    float4 features_20 [[color(6)]];
    float4 weight [[color(7)]];
};

// Evaluates the network for each pixel; its inputs come from buffers.
fragment radiance_cache_targets radiance_cache_fragment(
    radiance_cache_varyings varyings [[stage_in]],
    const device uchar *weights [[buffer(0)]],
    const device float *position [[buffer(1)]],
    const device float *roughness [[buffer(2)]],
    const device float *light [[buffer(3)]],
    constant radiance_cache_parameters &parameters [[buffer(4)]])
{
    const uint2 pixel = uint2(varyings.position.xy);
    const uint point = pixel.y * parameters.width + pixel.x;
    radiance_cache_inputs inputs;
    radiance_cache_load(inputs, point, position, roughness, light);
    const radiance_cache_outputs outputs = radiance_cache_evaluate(inputs, weights);
    radiance_cache_targets targets;
    targets.radiance = float4(outputs.radiance, 1.0f);
    targets.features_0 = float4(
        outputs.features[0], outputs.features[1], outputs.features[2], outputs.features[3]);
    targets.features_4 = float4(
        outputs.features[4], outputs.features[5], outputs.features[6], outputs.features[7]);
    targets.features_8 = float4(
        outputs.features[8], outputs.features[9], outputs.features[10], outputs.features[11]);
    targets.features_12 = float4(
        outputs.features[12], outputs.features[13], outputs.features[14], outputs.features[15]);
    targets.features_16 = float4(
        outputs.features[16], outputs.features[17], outputs.features[18], outputs.features[19]);
    targets.features_20 = float4(
        outputs.features[20], outputs.features[21], outputs.features[22], outputs.features[23]);
    targets.weight = float4(outputs.weight, 0.0f, 0.0f, 1.0f);
    return targets;
}
