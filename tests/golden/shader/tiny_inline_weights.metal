// tiny.metal (Metal Shading Language 4.0)
// tiny: y (1) of x (2).
// In a shader of your own, call tiny_evaluate(inputs); or use tiny_compute and tiny_fragment.
// Weights are rounded to what half can hold, what they are multiplied with is half; all else is
// float.
// Functions of `precise` keep digits that fast math, the compiler's default, would lose.

#include <metal_stdlib>

using namespace metal;

// features of the vectors, without padding
constant constexpr int tiny_x_width = 2;
constant constexpr int tiny_hidden_width = 4;
// layer 0, hidden: weight [output][input]
constant constexpr int tiny_w0_inputs = 2;
constant constexpr int tiny_w0_outputs = 4;
constant float tiny_w0[] = {
    1.1953125f, -1.1748047f, 0.20007324f, -0.45703125f, -0.9873047f, -0.3955078f, -0.24890137f,
    0.3857422f
};
// layer 1, y: weight [output][input]
constant constexpr int tiny_w1_inputs = 4;
constant constexpr int tiny_w1_outputs = 1;
constant float tiny_w1[] = {
    -1.0195312f, 1.2197266f, 0.81396484f, -1.1347656f
};
// bias of hidden
constant float tiny_b0[] = {
    -0.17443119f, -0.0443939f, -0.010369206f, -0.45535657f
};
// bias of y
constant float tiny_b1[] = {
    -0.094368905f
};

struct tiny_inputs {
    float2 x;
};

struct tiny_outputs {
    float y;
};

// The grid of points: the one at (x, y) has row y * width + x in the buffers.
struct tiny_parameters {
    uint width;
    uint height;
};

// The network for one point. Call it from any function of your own.
inline tiny_outputs tiny_evaluate(tiny_inputs inputs)
{
    tiny_outputs outputs;

    // layer 0: linear 2 -> 4, tanh (hidden)
    half x_operand[tiny_w0_inputs] = {};
    for (int i = 0; i < tiny_x_width; ++i) {
        x_operand[i] = half(inputs.x[i]);
    }
    float hidden_sums[tiny_w0_outputs];
    for (int i = 0; i < tiny_w0_outputs; ++i) {
        hidden_sums[i] = 0.0f;
        for (int j = 0; j < tiny_w0_inputs; ++j) {
            hidden_sums[i] += tiny_w0[i * tiny_w0_inputs + j] * float(x_operand[j]);
        }
    }
    half hidden[tiny_w1_inputs] = {};
    for (int i = 0; i < tiny_hidden_width; ++i) {
        hidden[i] = half(precise::tanh(hidden_sums[i] + tiny_b0[i]));
    }

    // layer 1: linear 4 -> 1 (y)
    float y_sums[tiny_w1_outputs];
    for (int i = 0; i < tiny_w1_outputs; ++i) {
        y_sums[i] = 0.0f;
        for (int j = 0; j < tiny_w1_inputs; ++j) {
            y_sums[i] += tiny_w1[i * tiny_w1_inputs + j] * float(hidden[j]);
        }
    }
    outputs.y = y_sums[0] + tiny_b1[0];
    return outputs;
}

// Reads a point's inputs: float rows, one a point.
inline void tiny_load(thread tiny_inputs &inputs, uint point, const device float *x)
{
    for (int i = 0; i < tiny_x_width; ++i) {
        inputs.x[i] = x[point * tiny_x_width + i];
    }
}

// Writes a point's outputs: float rows, one a point.
inline void tiny_store(tiny_outputs outputs, uint point, device float *y)
{
    y[point] = outputs.y;
}

// Evaluates the network for a grid of points whose inputs are read from buffers:
// 128 threads a threadgroup, in one dimension, one for each point.
kernel void tiny_compute(
    const device float *x [[buffer(0)]],
    device float *y [[buffer(1)]],
    constant tiny_parameters &parameters [[buffer(2)]],
    uint point [[thread_position_in_grid]])
{
    const uint count = parameters.width * parameters.height;
    if (point >= count) {
        return;
    }
    tiny_inputs inputs;
    tiny_load(inputs, point, x);
    tiny_outputs outputs;
    outputs = tiny_evaluate(inputs);
    tiny_store(outputs, point, y);
}

struct tiny_varyings {
    float4 position [[position]];
    float2 uv; // (0, 0) is the top left corner
};

// One triangle that covers the whole target: draw three vertices.
vertex tiny_varyings tiny_vertex(uint vertex_index [[vertex_id]])
{
    const float2 uv = float2(float(vertex_index / 2) * 2.0f, float(vertex_index % 2) * 2.0f);
    tiny_varyings varyings;
    varyings.position = float4(uv.x * 2.0f - 1.0f, 1.0f - uv.y * 2.0f, 0.0f, 1.0f);
    varyings.uv = uv;
    return varyings;
}

struct tiny_targets {
    float4 y [[color(0)]];
};

// Evaluates the network for each pixel; its inputs come from buffers.
fragment tiny_targets tiny_fragment(
    tiny_varyings varyings [[stage_in]],
    const device float *x [[buffer(0)]],
    constant tiny_parameters &parameters [[buffer(1)]])
{
    const uint2 pixel = uint2(varyings.position.xy);
    const uint point = pixel.y * parameters.width + pixel.x;
    tiny_inputs inputs;
    tiny_load(inputs, point, x);
    const tiny_outputs outputs = tiny_evaluate(inputs);
    tiny_targets targets;
    targets.y = float4(outputs.y, 0.0f, 0.0f, 1.0f);
    return targets;
}
