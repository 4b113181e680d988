"""The helpers that convolutions share, as Metal; `NAME_` stands for the network's prefix.

`W` is the structure of constants that a convolution has, see `convolution_source.traits`.

What is known of convolution2d: the order of the descriptor's numbers, NHWC, HWIO and NHWO, one
group, rank 4, int indices, the whole threadgroup as scope, and that an activation in threadgroup
memory with weights in device memory may have a cooperative float destination
(`MPPTensorOpsConvolution2d.h`; Metal Shading Language Specification, 7.2.2). That elements have
coordinates (channel, x, y, image) and that the offset names the centre of the first window is what
several users of it found on devices; so is that a tensor as destination was wrong on one of them,
and that borders are judged by the descriptor's sizes, which therefore are those of the window.

Unsure, as nobody says it: whether a static number of channels has to be a multiple of 32, as
matmul2d's inner length has (it always is one here, and that of outputs one of 16); which tiles are
fast; and how well activations in threadgroup memory do, as all users found have theirs in device
memory.
"""

from __future__ import annotations

IS_OUTSIDE = """\
// Where the pixel of a thread lies, and whether it is none: beyond the tile, or beyond the image.
template <typename W>
inline int2 NAME_pixel_of(int2 origin, uint thread_index)
{
    return origin + int2(int(thread_index) % W::tile_width, int(thread_index) / W::tile_width);
}

template <typename W>
inline bool NAME_is_outside(int2 at, int2 size, uint thread_index)
{
    return int(thread_index) >= W::tile_width * W::tile_height || at.x >= size.x || at.y >= size.y;
}
"""

CONVOLVE_PLAIN = """\
// The sums of one pixel, summed as float; what lies outside of the image counts as zero.
template <typename W, typename Value>
inline void NAME_convolve_plain(
    const device Value *image, int2 size, int2 at, const device uchar *weight, thread float *sums)
{
    float4 totals[W::quads] = {};
    const device WEIGHT4 *row = (const device WEIGHT4 *)weight;
    for (int tap = 0; tap < W::kernel_height * W::kernel_width; ++tap) {
        const int2 from = at - int2(W::left, W::above) +
            int2(tap % W::kernel_width, tap / W::kernel_width);
        if (from.x >= 0 && from.x < size.x && from.y >= 0 && from.y < size.y) {
            const device Value *pixel = image + uint(from.y * size.x + from.x) * W::channels;
            for (int c = 0; c < W::channels; ++c) {
                const float value = float(OPERAND(pixel[c]));
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
"""

CONVOLVE_INLINE = """\
// The sums of one pixel, summed as float; what lies outside of the image counts as zero.
template <typename W, typename Value>
inline void NAME_convolve_plain(
    const device Value *image, int2 size, int2 at, constant float *weight, thread float *sums)
{
    for (int o = 0; o < W::outputs; ++o) {
        sums[o] = 0.0f;
    }
    for (int tap = 0; tap < W::kernel_height * W::kernel_width; ++tap) {
        const int2 from = at - int2(W::left, W::above) +
            int2(tap % W::kernel_width, tap / W::kernel_width);
        if (from.x < 0 || from.x >= size.x || from.y < 0 || from.y >= size.y) {
            continue;
        }
        const device Value *pixel = image + uint(from.y * size.x + from.x) * W::channels;
        for (int c = 0; c < W::channels; ++c) {
            const float value = float(OPERAND(pixel[c]));
            for (int o = 0; o < W::outputs; ++o) {
                sums[o] += value * weight[(tap * W::channels + c) * W::outputs + o];
            }
        }
    }
}
"""

CONVOLVE_TILE = """\
// Fills threadgroup memory with the pixels that a tile's windows see, from `first` on: NHWC in the
// operands' type, zero outside of the image and in channels that it does not have.
template <typename W, typename Value>
inline void NAME_fill_window(
    const device Value *image, int2 size, int2 first, threadgroup uchar *tile, uint thread_index)
{
    threadgroup OPERAND *window = (threadgroup OPERAND *)tile;
    const int count = W::window_width * W::window_height * W::inputs;
    for (int i = int(thread_index); i < count; i += NAME_threads) {
        const int channel = i % W::inputs;
        const int place = i / W::inputs;
        const int2 from = first + int2(place % W::window_width, place / W::window_width);
        const bool inside = channel < W::channels && from.x >= 0 && from.x < size.x &&
            from.y >= 0 && from.y < size.y;
        window[i] = inside
            ? OPERAND(image[uint(from.y * size.x + from.x) * W::channels + channel])
            : OPERAND(0);
    }
}

// The convolution of a tile by convolution2d, which all threads of the threadgroup do together.
// Its sums lie spread over them: each hands those that it has to `finish(output, place, sum)`, the
// place counted from the tile's corner; that may write to the threadgroup's memory.
template <typename W, typename Finish>
inline void NAME_convolve_tile(threadgroup uchar *tile, const device uchar *weight, Finish finish)
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
    mpp::tensor_ops::convolution2d<descriptor, execution_simdgroups<NAME_simdgroups>> convolve;
    // where the centre of the first pixel's kernel lies in the window, so that all of it is inside
    convolve.set_offsets(int2(W::kernel_width / 2, W::kernel_height / 2));
    using window_extents = extents<int, W::inputs, W::window_width, W::window_height, 1>;
    using weight_extents = extents<int, W::outputs, W::inputs, W::kernel_width, W::kernel_height>;
    tensor<threadgroup OPERAND, window_extents, tensor_inline> window(
        (threadgroup OPERAND *)tile, window_extents());
    tensor<device WEIGHT, weight_extents, tensor_inline> taps(
        (device WEIGHT *)weight, weight_extents());
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
"""

CONVOLVE_ROWS = """\
// The same where each thread needs all sums of its own pixel.
template <typename W>
inline void NAME_convolve_rows(
    threadgroup uchar *tile, uint thread_index, const device uchar *weight, thread float *result)
{
    threadgroup float *rows = (threadgroup float *)tile;
    NAME_convolve_tile<W>(tile, weight, [=](int o, int2 at, float sum) {
        rows[(at.y * W::tile_width + at.x) * W::outputs + o] = sum;
    });
    threadgroup_barrier(mem_flags::mem_threadgroup); // all sums are written
    if (thread_index < uint(W::tile_width * W::tile_height)) {
        for (int o = 0; o < W::outputs; ++o) {
            result[o] = rows[int(thread_index) * W::outputs + o];
        }
    }
}
"""

CONVOLVE = """\
// The sums of this thread's pixel on the path that the pipeline was made for: all threads call it.
template <typename W, typename Value>
inline void NAME_convolve(
    const device Value *image, int2 size, int2 origin, const device uchar *weight,
    threadgroup uchar *tile, uint thread_index, thread float *sums)
{
#if UPPER_HAS_MATMUL2D
    if (NAME_use_matmul2d) {
        const int2 first = origin - int2(W::left, W::above);
        NAME_fill_window<W>(image, size, first, tile, thread_index);
        NAME_convolve_rows<W>(tile, thread_index, weight, sums);
        return;
    }
#endif
    NAME_convolve_plain<W>(image, size, NAME_pixel_of<W>(origin, thread_index), weight, sums);
}
"""
