// denoiser.metal (Metal Shading Language 4.0)
// denoiser: denoised (3) of image (3).
// Dispatch denoiser_pass_1, denoiser_pass_2, denoiser_pass_3 in this order, each after the one
// before has written its images (a barrier between dispatches). Images are buffers of rows, one for
// each pixel.
// Weights and what they are multiplied with are half; all else is float.
// `weights` is the file denoiser.weights as it is, at an address that is a multiple of 128 bytes.
// denoiser_use_matmul2d (function constant 0) picks convolution2d and matmul2d of Metal Performance
// Primitives, or arithmetic that every compiler of Metal has.

#include <metal_stdlib>
// Metal Performance Primitives has matmul2d from Metal 4 on; without it the plain path is compiled.
#if defined(__HAVE_TENSOR__) && \
    __has_include(<MetalPerformancePrimitives/MetalPerformancePrimitives.h>)
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
#define DENOISER_HAS_MATMUL2D 1
#else
#define DENOISER_HAS_MATMUL2D 0
#endif

using namespace metal;

// Picks the path when the pipeline is made: matmul2d where it is true, else plain arithmetic.
constant bool denoiser_use_matmul2d [[function_constant(0)]];

// features of the vectors, without padding
constant constexpr int denoiser_first_2_width = 12;
constant constexpr int denoiser_hidden_width = 12;
constant constexpr int denoiser_active_width = 8;
constant constexpr int denoiser_features_width = 12;
constant constexpr int denoiser_last_width = 3;
constant constexpr int denoiser_image_width = 3;
constant constexpr int denoiser_denoised_width = 3;
// mix: float16 weight [output][input]
constant constexpr int denoiser_w2_inputs = 32; // 8, padded with zeros
constant constexpr int denoiser_w2_outputs = 16; // 12, padded with zeros
// where the arrays begin in the weights, in bytes
constant constexpr int denoiser_w0_offset = 0; // first
constant constexpr int denoiser_b0_offset = 9216; // first
constant constexpr int denoiser_w1_offset = 9344; // second
constant constexpr int denoiser_b1_offset = 18560; // second
constant constexpr int denoiser_w2_offset = 18688; // mix
constant constexpr int denoiser_b2_offset = 19712; // mix
constant constexpr int denoiser_w3_offset = 19840; // last
constant constexpr int denoiser_b3_offset = 29056; // last
// threads of a threadgroup that computes a tile of pixels, and its simdgroups
constant constexpr int denoiser_threads = 128;
constant constexpr int denoiser_simdgroups = 4;

// pass 1, first: half weight [row][column][input][output]
struct denoiser_w0 {
    static constexpr constant int kernel_width = 3;
    static constexpr constant int kernel_height = 3;
    static constexpr constant int left = 1; // columns of the kernel before its pixel
    static constexpr constant int above = 1; // rows of the kernel above it
    static constexpr constant int channels = 3; // of the image
    static constexpr constant int inputs = 32; // 3, padded with zeros
    static constexpr constant int outputs = 16; // 12, padded with zeros
    static constexpr constant int quads = 3; // groups of four outputs that are used
    static constexpr constant int tile_width = 16; // pixels of a threadgroup
    static constexpr constant int tile_height = 8;
    static constexpr constant int window_width = 18; // what their kernels see
    static constexpr constant int window_height = 10;
};

// pass 2, second: half weight [row][column][input][output]
struct denoiser_w1 {
    static constexpr constant int kernel_width = 3;
    static constexpr constant int kernel_height = 3;
    static constexpr constant int left = 1; // columns of the kernel before its pixel
    static constexpr constant int above = 1; // rows of the kernel above it
    static constexpr constant int channels = 12; // of the image
    static constexpr constant int inputs = 32; // 12, padded with zeros
    static constexpr constant int outputs = 16; // 8, padded with zeros
    static constexpr constant int quads = 2; // groups of four outputs that are used
    static constexpr constant int tile_width = 16; // pixels of a threadgroup
    static constexpr constant int tile_height = 8;
    static constexpr constant int window_width = 18; // what their kernels see
    static constexpr constant int window_height = 10;
};

// pass 3, last: half weight [row][column][input][output]
struct denoiser_w3 {
    static constexpr constant int kernel_width = 3;
    static constexpr constant int kernel_height = 3;
    static constexpr constant int left = 1; // columns of the kernel before its pixel
    static constexpr constant int above = 1; // rows of the kernel above it
    static constexpr constant int channels = 12; // of the image
    static constexpr constant int inputs = 32; // 12, padded with zeros
    static constexpr constant int outputs = 16; // 3, padded with zeros
    static constexpr constant int quads = 1; // groups of four outputs that are used
    static constexpr constant int tile_width = 16; // pixels of a threadgroup
    static constexpr constant int tile_height = 8;
    static constexpr constant int window_width = 18; // what their kernels see
    static constexpr constant int window_height = 10;
};

// The size of all images: the pixel at (x, y) has row y * width + x in the buffers.
struct denoiser_parameters {
    uint width;
    uint height;
};

// 1 / (1 + exp(-x)); the exponential is of what is not positive, so it cannot overflow.
inline float denoiser_sigmoid(float x)
{
    const float e = precise::exp(-abs(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

// x times its sigmoid.
inline float denoiser_silu(float x)
{
    return x * denoiser_sigmoid(x);
}

// result[o] = sum over i of weight[o][i] * operand[i], four products at a time, summed as float.
template <int INPUTS, int OUTPUTS>
inline void denoiser_multiply_plain(
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

#if DENOISER_HAS_MATMUL2D

// The tensor of a layer's weights, made in their buffer: extents are innermost first, so that
// [i, o] is weight[o][i]. matmul2d takes no tensor of const elements, though it only reads them.
template <int INPUTS, int OUTPUTS>
inline auto denoiser_weight(const device uchar *weight)
{
    return tensor<device half, extents<int, INPUTS, OUTPUTS>, tensor_inline>(
        (device half *)weight, extents<int, INPUTS, OUTPUTS>());
}

// The same product by matmul2d, in this thread alone: the only scope that fragment functions have.
template <int INPUTS, int OUTPUTS>
inline void denoiser_multiply_point(
    thread half *operand, const device uchar *weight, thread float *result)
{
    // one row, OUTPUTS columns, INPUTS summed; the weights are transposed; full precision
    constexpr auto descriptor =
        mpp::tensor_ops::matmul2d_descriptor(1, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_thread> multiply;
    auto point = tensor(operand, extents<int, INPUTS, 1>());
    auto right = denoiser_weight<INPUTS, OUTPUTS>(weight);
    auto sums = tensor(result, extents<int, OUTPUTS, 1>());
    multiply.run(point, right, sums);
}

#endif // DENOISER_HAS_MATMUL2D

// The product on the path that the pipeline was made for.
template <int INPUTS, int OUTPUTS>
inline void denoiser_multiply(
    thread half *operand, const device uchar *weight, thread float *result)
{
#if DENOISER_HAS_MATMUL2D
    if (denoiser_use_matmul2d) {
        denoiser_multiply_point<INPUTS, OUTPUTS>(operand, weight, result);
        return;
    }
#endif
    denoiser_multiply_plain<INPUTS, OUTPUTS>(operand, weight, result);
}

// Where the pixel of a thread lies, and whether it is none: beyond the tile, or beyond the image.
template <typename W>
inline int2 denoiser_pixel_of(int2 origin, uint thread_index)
{
    return origin + int2(int(thread_index) % W::tile_width, int(thread_index) / W::tile_width);
}

template <typename W>
inline bool denoiser_is_outside(int2 at, int2 size, uint thread_index)
{
    return int(thread_index) >= W::tile_width * W::tile_height || at.x >= size.x || at.y >= size.y;
}

// The sums of one pixel, summed as float; what lies outside of the image counts as zero.
template <typename W, typename Value>
inline void denoiser_convolve_plain(
    const device Value *image, int2 size, int2 at, const device uchar *weight, thread float *sums)
{
    float4 totals[W::quads] = {};
    const device half4 *row = (const device half4 *)weight;
    for (int tap = 0; tap < W::kernel_height * W::kernel_width; ++tap) {
        const int2 from = at - int2(W::left, W::above) +
            int2(tap % W::kernel_width, tap / W::kernel_width);
        if (from.x >= 0 && from.x < size.x && from.y >= 0 && from.y < size.y) {
            const device Value *pixel = image + uint(from.y * size.x + from.x) * W::channels;
            for (int c = 0; c < W::channels; ++c) {
                const float value = float(half(pixel[c]));
                for (int o = 0; o < W::quads; ++o) {
                    totals[o] += value * float4(row[c * W::outputs / 4 + o]);
                }
            }
        }
        row += W::inputs * W::outputs / 4;
    }
    for (int o = 0; o < W::quads * 4; ++o) {
        sums[o] = totals[o / 4][o % 4];
    }
}

#if DENOISER_HAS_MATMUL2D

// Fills threadgroup memory with the pixels that a tile's windows see, from `first` on: NHWC in the
// operands' type, zero outside of the image and in channels that it does not have.
template <typename W, typename Value>
inline void denoiser_fill_window(
    const device Value *image, int2 size, int2 first, threadgroup uchar *tile, uint thread_index)
{
    threadgroup half *window = (threadgroup half *)tile;
    const int count = W::window_width * W::window_height * W::inputs;
    for (int i = int(thread_index); i < count; i += denoiser_threads) {
        const int channel = i % W::inputs;
        const int place = i / W::inputs;
        const int2 from = first + int2(place % W::window_width, place / W::window_width);
        const bool inside = channel < W::channels && from.x >= 0 && from.x < size.x &&
            from.y >= 0 && from.y < size.y;
        window[i] = inside
            ? half(image[uint(from.y * size.x + from.x) * W::channels + channel])
            : half(0);
    }
}

// The convolution of a tile by convolution2d, which all threads of the threadgroup do together.
// Its sums lie spread over them: each hands those that it has to `finish(output, place, sum)`, the
// place counted from the tile's corner; that may write to the threadgroup's memory.
template <typename W, typename Finish>
inline void denoiser_convolve_tile(threadgroup uchar *tile, const device uchar *weight, Finish
    finish)
{
    // dimensions are (channels, width, height, images); strides, dilations and groups are 1
    constexpr auto descriptor = mpp::tensor_ops::convolution2d_descriptor(
        int4(W::outputs, W::tile_width, W::tile_height, 1),
        int4(W::inputs, W::window_width, W::window_height, 1),
        int2(W::kernel_width, W::kernel_height),
        mpp::tensor_ops::convolution2d_activation_layout::nhwc,
        mpp::tensor_ops::convolution2d_weights_layout::hwio,
        int2(1, 1), int2(1, 1), 1, false,
        mpp::tensor_ops::convolution2d_descriptor::mode::multiply);
    mpp::tensor_ops::convolution2d<descriptor, execution_simdgroups<denoiser_simdgroups>> convolve;
    // where the centre of the first pixel's kernel lies in the window, so that all of it is inside
    convolve.set_offsets(int2(W::kernel_width / 2, W::kernel_height / 2));
    using window_extents = extents<int, W::inputs, W::window_width, W::window_height, 1>;
    using weight_extents = extents<int, W::outputs, W::inputs, W::kernel_width, W::kernel_height>;
    tensor<threadgroup half, window_extents, tensor_inline> window(
        (threadgroup half *)tile, window_extents());
    tensor<device half, weight_extents, tensor_inline> taps(
        (device half *)weight, weight_extents());
    auto sums = convolve.template get_destination_cooperative_tensor<
        decltype(window), decltype(taps), float>();
    threadgroup_barrier(mem_flags::mem_threadgroup); // the window is filled
    convolve.run(window, taps, sums);
    threadgroup_barrier(mem_flags::mem_threadgroup); // the window is read
    for (ushort e = 0; e < sums.get_capacity(); ++e) {
        if (sums.is_valid_element(e)) {
            const auto at = sums.get_multidimensional_index(e); // (output, x, y, image)
            finish(int(at[0]), int2(int(at[1]), int(at[2])), float(sums[e]));
        }
    }
}

// The same where each thread needs all sums of its own pixel.
template <typename W>
inline void denoiser_convolve_rows(
    threadgroup uchar *tile, uint thread_index, const device uchar *weight, thread float *result)
{
    threadgroup float *rows = (threadgroup float *)tile;
    denoiser_convolve_tile<W>(tile, weight, [=](int o, int2 at, float sum) {
        rows[(at.y * W::tile_width + at.x) * W::outputs + o] = sum;
    });
    threadgroup_barrier(mem_flags::mem_threadgroup); // all sums are written
    if (thread_index < uint(W::tile_width * W::tile_height)) {
        for (int o = 0; o < W::outputs; ++o) {
            result[o] = rows[int(thread_index) * W::outputs + o];
        }
    }
}

#endif // DENOISER_HAS_MATMUL2D

// The sums of this thread's pixel on the path that the pipeline was made for: all threads call it.
template <typename W, typename Value>
inline void denoiser_convolve(
    const device Value *image, int2 size, int2 origin, const device uchar *weight,
    threadgroup uchar *tile, uint thread_index, thread float *sums)
{
#if DENOISER_HAS_MATMUL2D
    if (denoiser_use_matmul2d) {
        const int2 first = origin - int2(W::left, W::above);
        denoiser_fill_window<W>(image, size, first, tile, thread_index);
        denoiser_convolve_rows<W>(tile, thread_index, weight, sums);
        return;
    }
#endif
    denoiser_convolve_plain<W>(
        image, size, denoiser_pixel_of<W>(origin, thread_index), weight, sums);
}

// Pass 1: convolution 3 x 3, 3 -> 12 channels, relu (first), to hidden: 128 threads a
//   threadgroup, each of which computes a tile of 16 x 8 pixels.
kernel void denoiser_pass_1(
    const device uchar *weights [[buffer(0)]],
    const device float *image [[buffer(1)]],
    device float *hidden [[buffer(2)]],
    constant denoiser_parameters &parameters [[buffer(3)]],
    threadgroup uchar *tile [[threadgroup(0)]],
    uint2 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]])
{
    const int2 size = int2(int(parameters.width), int(parameters.height));
    const int2 origin = int2(
        int(group.x) * denoiser_w0::tile_width, int(group.y) * denoiser_w0::tile_height);
    const device float *b0 = (const device float *)(weights + denoiser_b0_offset);

    // each sum is used by itself, by the thread that has it
#if DENOISER_HAS_MATMUL2D
    if (denoiser_use_matmul2d) {
        const int2 first = origin - int2(denoiser_w0::left, denoiser_w0::above);
        denoiser_fill_window<denoiser_w0>(image, size, first, tile, thread_index);
        denoiser_convolve_tile<denoiser_w0>(tile, weights + denoiser_w0_offset,
            [=](int i, int2 place, float sum) {
                const int2 at = origin + place;
                if (i < denoiser_first_2_width && at.x < size.x && at.y < size.y) {
                    const uint pixel = uint(at.y * size.x + at.x);
                    hidden[pixel * denoiser_hidden_width + i] = max(sum + b0[i], 0.0f);
                }
            });
        return;
    }
#endif

    // one thread a pixel
    const int2 at = denoiser_pixel_of<denoiser_w0>(origin, thread_index);
    if (denoiser_is_outside<denoiser_w0>(at, size, thread_index)) {
        return;
    }
    float sums[denoiser_w0::outputs];
    denoiser_convolve_plain<denoiser_w0>(image, size, at, weights + denoiser_w0_offset, sums);
    const uint pixel = uint(at.y * size.x + at.x);
    hidden += pixel * denoiser_hidden_width;

    // hidden: relu (hidden)
    for (int i = 0; i < denoiser_hidden_width; ++i) {
        hidden[i] = max(sums[i] + b0[i], 0.0f);
    }
}

// Pass 2: convolution 3 x 3, 12 -> 8 channels, silu (second), to features: 128 threads a
//   threadgroup, each of which computes a tile of 16 x 8 pixels.
kernel void denoiser_pass_2(
    const device uchar *weights [[buffer(0)]],
    const device float *hidden [[buffer(1)]],
    device half *features [[buffer(2)]],
    constant denoiser_parameters &parameters [[buffer(3)]],
    threadgroup uchar *tile [[threadgroup(0)]],
    uint2 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]])
{
    const int2 size = int2(int(parameters.width), int(parameters.height));
    const int2 origin = int2(
        int(group.x) * denoiser_w1::tile_width, int(group.y) * denoiser_w1::tile_height);
    const device float *b1 = (const device float *)(weights + denoiser_b1_offset);
    const device float *b2 = (const device float *)(weights + denoiser_b2_offset);

    // one thread a pixel
    float sums[denoiser_w1::outputs];
    denoiser_convolve<denoiser_w1>(
        hidden, size, origin, weights + denoiser_w1_offset, tile, thread_index, sums);
    const int2 at = denoiser_pixel_of<denoiser_w1>(origin, thread_index);
    if (denoiser_is_outside<denoiser_w1>(at, size, thread_index)) {
        return;
    }
    const uint pixel = uint(at.y * size.x + at.x);
    hidden += pixel * denoiser_hidden_width;
    features += pixel * denoiser_features_width;

    // active: silu (active)
    half active[denoiser_w2_inputs] = {};
    for (int i = 0; i < denoiser_active_width; ++i) {
        active[i] = half(denoiser_silu(sums[i] + b1[i]));
    }

    // layer 0: linear 8 -> 12, sigmoid (mix)
    float mix[denoiser_w2_outputs];
    denoiser_multiply<denoiser_w2_inputs, denoiser_w2_outputs>(
        active, weights + denoiser_w2_offset, mix);
    for (int i = 0; i < denoiser_features_width; ++i) {
        features[i] = half(hidden[i] + denoiser_sigmoid(mix[i] + b2[i]));
    }
}

// Pass 3: convolution 3 x 3, 12 -> 3 channels (last), to denoised: 128 threads a
//   threadgroup, each of which computes a tile of 16 x 8 pixels.
kernel void denoiser_pass_3(
    const device uchar *weights [[buffer(0)]],
    const device half *features [[buffer(1)]],
    const device float *image [[buffer(2)]],
    device float *denoised [[buffer(3)]],
    constant denoiser_parameters &parameters [[buffer(4)]],
    threadgroup uchar *tile [[threadgroup(0)]],
    uint2 group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]])
{
    const int2 size = int2(int(parameters.width), int(parameters.height));
    const int2 origin = int2(
        int(group.x) * denoiser_w3::tile_width, int(group.y) * denoiser_w3::tile_height);
    const device float *b3 = (const device float *)(weights + denoiser_b3_offset);

    // each sum is used by itself, by the thread that has it
#if DENOISER_HAS_MATMUL2D
    if (denoiser_use_matmul2d) {
        const int2 first = origin - int2(denoiser_w3::left, denoiser_w3::above);
        denoiser_fill_window<denoiser_w3>(features, size, first, tile, thread_index);
        denoiser_convolve_tile<denoiser_w3>(tile, weights + denoiser_w3_offset,
            [=](int i, int2 place, float sum) {
                const int2 at = origin + place;
                if (i < denoiser_last_width && at.x < size.x && at.y < size.y) {
                    const uint pixel = uint(at.y * size.x + at.x);
                    denoised[pixel * denoiser_denoised_width + i] =
                        image[pixel * denoiser_image_width + i] + (sum + b3[i]);
                }
            });
        return;
    }
#endif

    // one thread a pixel
    const int2 at = denoiser_pixel_of<denoiser_w3>(origin, thread_index);
    if (denoiser_is_outside<denoiser_w3>(at, size, thread_index)) {
        return;
    }
    float sums[denoiser_w3::outputs];
    denoiser_convolve_plain<denoiser_w3>(features, size, at, weights + denoiser_w3_offset, sums);
    const uint pixel = uint(at.y * size.x + at.x);
    image += pixel * denoiser_image_width;
    denoised += pixel * denoiser_denoised_width;

    // denoised: arithmetic (denoised)
    for (int i = 0; i < denoiser_denoised_width; ++i) {
        denoised[i] = image[i] + (sums[i] + b3[i]);
    }
}
