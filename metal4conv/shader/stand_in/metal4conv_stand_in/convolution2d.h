// convolution2d.h: convolution2d of <MetalPerformancePrimitives/MPPTensorOpsConvolution2d.h>.
//
// What the header and the Metal Shading Language Specification (7.2.2) say:
// - dimensions in the descriptor are (channels, width, height, batch); activation NHWC, weights
//   HWIO, destination NHWO, which as extents are (C, W, H, N), (O, C, W, H) and (O, W, H, N);
// - one group; rank 4; index type int; activation and weights in device or threadgroup memory;
// - the scope is the whole threadgroup, execution_simdgroups<N> with all N that it has.
// What they leave open, and several users of it have measured on devices, who agree:
// - the window of output (x, y) is centred on (x, y) * strides + offsets; the centre of K elements
//   is element ceil((K - 1) * dilation / 2); offsets are (0, 0) unless `set_offsets` was called;
// - what a window reads outside of the activation is zero, judged by the descriptor's dimensions:
//   here they have to be the activation's, as other ones gave wrong borders;
// - elements of a cooperative destination have the coordinates (channel, x, y, batch).
// Nobody says in which order products are summed, how elements spread over threads (scrambled
// here), or that an activation in threadgroup memory was ever tried: the header declares it.
#pragma once
#include <metal4conv_stand_in/cooperative_tensor.h>
#include <metal4conv_stand_in/lanes.h>
#include <metal4conv_stand_in/language.h>
#include <metal4conv_stand_in/tensor.h>

namespace metal4conv_stand_in {

template <class A, class W, class D>
constexpr bool convolves() {
    using metal::is_same_v;
    constexpr bool bytes = (is_same_v<A, int8_t> || is_same_v<A, uint8_t>) &&
                           (is_same_v<W, int8_t> || is_same_v<W, uint8_t>);
    if (bytes) return is_same_v<D, int32_t> || is_same_v<D, float> || is_same_v<D, half>;
    if (!is_same_v<A, W>) return false;
    if (is_same_v<A, half>) return is_same_v<D, half> || is_same_v<D, float>;
    if (is_same_v<A, float>) return is_same_v<D, float>;
    if (is_same_v<A, bfloat> && METAL4CONV_STAND_IN_SYSTEM >= 2601)
        return is_same_v<D, bfloat> || is_same_v<D, float>;
    return false;
}

constexpr bool same_or_dynamic(size_t extent, int size) {
    return extent == metal::dynamic_extent || int(extent) == size;
}

}  // namespace metal4conv_stand_in

namespace mpp {
namespace tensor_ops {

enum class convolution2d_activation_layout { nhwc };
enum class convolution2d_weights_layout { hwio };

struct convolution2d_descriptor {
    enum class mode { multiply, multiply_accumulate };

    ::int4 destination_dimensions;
    ::int4 source_dimensions;
    ::int2 kernel_dimensions;
    convolution2d_activation_layout activation_layout;
    convolution2d_weights_layout weights_layout;
    ::int2 strides;
    ::int2 dilations;
    int groups;
    bool relaxed_precision;
    mode conv2d_mode;

    constexpr convolution2d_descriptor(
        ::int4 destination, ::int4 source, ::int2 kernel_size,
        convolution2d_activation_layout activation = convolution2d_activation_layout::nhwc,
        convolution2d_weights_layout weights = convolution2d_weights_layout::hwio,
        ::int2 steps = ::metal4conv_stand_in::make_vector<::int2>(1, 1),
        ::int2 spacing = ::metal4conv_stand_in::make_vector<::int2>(1, 1), int group_count = 1,
        bool is_relaxed = false, mode what = mode::multiply)
        : destination_dimensions(destination),
          source_dimensions(source),
          kernel_dimensions(kernel_size),
          activation_layout(activation),
          weights_layout(weights),
          strides(steps),
          dilations(spacing),
          groups(group_count),
          relaxed_precision(is_relaxed),
          conv2d_mode(what) {}
};

template <convolution2d_descriptor D, class Scope, class... Rest>
class convolution2d {
    static constexpr int simdgroups = metal4conv_stand_in::scope_simdgroups<Scope>;
    static_assert(simdgroups > 0,
                  "rule: convolution2d works in the whole threadgroup, its scope is "
                  "execution_simdgroups<N> (MPPTensorOpsConvolution2d.h)");
    static_assert(D.groups == 1, "rule: convolution2d takes one group "
                                 "(MPPTensorOpsConvolution2d.h)");
    static constexpr int out_channels = D.destination_dimensions[0];
    static constexpr int out_width = D.destination_dimensions[1];
    static constexpr int out_height = D.destination_dimensions[2];
    static constexpr int batch = D.destination_dimensions[3];
    static constexpr int kernel_width = D.kernel_dimensions[0];
    static constexpr int kernel_height = D.kernel_dimensions[1];

    ::int2 offset = {0, 0};

   public:
    void set_offsets(::int2 given) { offset = given; }

    template <class Activation, class Weights, class T, class Coordinate = int>
    auto get_destination_cooperative_tensor() const {
        static_assert(out_channels > 0 && out_width > 0 && out_height > 0 && batch > 0,
                      "rule: a cooperative destination has sizes that the compiler knows");
        using namespace metal4conv_stand_in;
        using sizes = metal::extents<int, size_t(out_channels), size_t(out_width),
                                     size_t(out_height), size_t(batch)>;
        using layout = scattered<simdgroups * simdgroup_threads, out_channels * out_width *
                                                                     out_height * batch>;
        return metal::cooperative_tensor<T, sizes, layout>();
    }

    template <class Activation, class Weights, class Destination>
    void run(Activation &activation, Weights &weights, Destination &destination,
             int line = __builtin_LINE()) const METAL4CONV_BLOCKING {
        using namespace metal4conv_stand_in;
        check_types<Activation, Weights, Destination>();
        check_sizes(activation, weights);
        if (running->simdgroups != simdgroups)
            fail("rule: convolution2d (line %d) is made for %d simdgroups, the threadgroup has %d: "
                 "it has to be all of them (MPPTensorOpsConvolution2d.h)",
                 line, simdgroups, running->simdgroups);
        using sum = typename metal::conditional_t<
            __is_same(typename Destination::value_type, int32_t), int32_t, float>;
        constexpr int pixels = out_width * out_height * batch;
        constexpr size_t bytes = sizeof(sum) * size_t(pixels) * out_channels;
        unsigned char *sums = together(simdgroups, bytes + sizeof(uint64_t), "convolution2d", line,
                                       [&](unsigned char *buffer, scope &) {
                                           convolve(activation, weights, (sum *)buffer);
                                           *(uint64_t *)(buffer + bytes) = digest(activation);
                                       });
        // one of these is the last to come back
        bool may_be_last = running->current == 0 || running->current == running->threads - 1;
        if (may_be_last && *(const uint64_t *)(sums + bytes) != digest(activation))
            fail("the activation of convolution2d (line %d) is written while other threads still "
                 "read it: a threadgroup_barrier has to stand between",
                 line);
        constexpr bool adds = D.conv2d_mode == convolution2d_descriptor::mode::multiply_accumulate;
        for (uint16_t i = 0; i < destination.get_capacity(); ++i) {
            if (!destination.is_valid_element(i)) continue;
            auto at = destination.get_multidimensional_index(i);
            int pixel = at[1] + out_width * (at[2] + out_height * at[3]);
            sum value = ((const sum *)sums)[pixel * out_channels + at[0]];
            if constexpr (adds) value += sum(destination[i]);
            destination[i] = typename Destination::value_type(value);
        }
    }

   private:
    template <class Activation, class Weights, class Destination>
    static constexpr void check_types() {
        using namespace metal4conv_stand_in;
        static_assert(metal::is_tensor_v<Activation> && metal::is_tensor_v<Weights>,
                      "rule: activation and weights of convolution2d are tensors "
                      "(MPPTensorOpsConvolution2d.h)");
        static_assert(Activation::ranks == 4 && Weights::ranks == 4,
                      "rule: activation and weights of convolution2d have rank 4 "
                      "(MPPTensorOpsConvolution2d.h)");
        static_assert(__is_same(typename Activation::index_type, int) &&
                          __is_same(typename Weights::index_type, int),
                      "rule: the index type of tensors in convolution2d is int "
                      "(MPPTensorOpsConvolution2d.h)");
        static_assert((Activation::space == 1 || Activation::space == 3) &&
                          (Weights::space == 1 || Weights::space == 3),
                      "rule: tensors in convolution2d lie in device or threadgroup memory "
                      "(MPPTensorOpsConvolution2d.h)");
        static_assert(metal::is_cooperative_tensor_v<Destination>,
                      "rule: the destination of convolution2d is a cooperative tensor here; a "
                      "tensor as destination was measured to be wrong on a device");
        static_assert(convolves<typename Activation::value_type, typename Weights::value_type,
                                typename Destination::value_type>(),
                      "rule: convolution2d multiplies half with half, float with float or 8 bits "
                      "with 8 bits, bfloat from macOS 26.1 on (MPPTensorOpsConvolution2d.h)");
        static_assert(
            same_or_dynamic(Weights::get_static_extent(0), out_channels) &&
                same_or_dynamic(Weights::get_static_extent(1), D.source_dimensions[0]) &&
                same_or_dynamic(Weights::get_static_extent(2), kernel_width) &&
                same_or_dynamic(Weights::get_static_extent(3), kernel_height),
            "rule: the weights of convolution2d are HWIO, extents (outputs, inputs, kernel width, "
            "kernel height) as the descriptor has them (MPPTensorOpsConvolution2d.h)");
        static_assert(
            same_or_dynamic(Activation::get_static_extent(0), D.source_dimensions[0]) &&
                same_or_dynamic(Activation::get_static_extent(1), D.source_dimensions[1]) &&
                same_or_dynamic(Activation::get_static_extent(2), D.source_dimensions[2]) &&
                same_or_dynamic(Activation::get_static_extent(3), D.source_dimensions[3]),
            "rule: the activation of convolution2d is NHWC, extents (channels, width, height, "
            "batch) as the descriptor has them (MPPTensorOpsConvolution2d.h)");
    }

    template <class Activation, class Weights>
    static void check_sizes(const Activation &activation, const Weights &weights) {
        using namespace metal4conv_stand_in;
        int wanted[] = {out_channels, D.source_dimensions[0], kernel_width, kernel_height};
        for (int d = 0; d < 4; ++d) {
            if (weights.get_extent(d) != wanted[d])
                fail("rule: dimension %d of the weights of convolution2d is %d, the descriptor "
                     "says %d (MPPTensorOpsConvolution2d.h)",
                     d, weights.get_extent(d), wanted[d]);
            if (activation.get_extent(d) != D.source_dimensions[d])
                fail("rule: dimension %d of the activation of convolution2d is %d, the descriptor "
                     "says %d (MPPTensorOpsConvolution2d.h)",
                     d, activation.get_extent(d), int(D.source_dimensions[d]));
        }
        check_memory(activation, "the activation of convolution2d");
        check_memory(weights, "the weights of convolution2d");
    }

    // A number that is another one when the elements are others.
    template <class Tensor>
    static uint64_t digest(const Tensor &tensor) {
        uint64_t result = 14695981039346656037ull;
        int sizes[] = {tensor.get_extent(0), tensor.get_extent(1), tensor.get_extent(2),
                       tensor.get_extent(3)};
        for (int i = 0; i < sizes[0] * sizes[1] * sizes[2] * sizes[3]; ++i) {
            auto element = *tensor.at({i % sizes[0], i / sizes[0] % sizes[1],
                                       i / (sizes[0] * sizes[1]) % sizes[2],
                                       i / (sizes[0] * sizes[1] * sizes[2])});
            uint bits = 0;
            __builtin_memcpy(&bits, &element, sizeof(element));
            result = (result ^ bits) * 1099511628211ull;
        }
        return result;
    }

    // All sums, in the order of coordinates (channel, x, y, batch).
    template <class Activation, class Weights, class Sum>
    void convolve(const Activation &activation, const Weights &weights, Sum *sums) const {
        constexpr int inputs = D.source_dimensions[0];
        for (int pixel = 0; pixel < out_width * out_height * batch; ++pixel) {
            Sum *sum = sums + pixel * out_channels;
            for (int o = 0; o < out_channels; ++o) sum[o] = 0;
            int n = pixel / (out_width * out_height);
            for (int ky = 0; ky < kernel_height; ++ky) {
                for (int kx = 0; kx < kernel_width; ++kx) {
                    int x = source(pixel % out_width, kx, 0);
                    int y = source(pixel / out_width % out_height, ky, 1);
                    if (x < 0 || x >= activation.get_extent(1) || y < 0 ||
                        y >= activation.get_extent(2))
                        continue;
                    auto *from = activation.at({0, x, y, n});
                    auto *taps = weights.at({0, 0, kx, ky});
                    for (int c = 0; c < inputs; ++c) {
                        Sum value = Sum(from[c * activation.strides[0]]);
                        auto *tap = taps + c * weights.strides[1];
                        for (int o = 0; o < out_channels; ++o)
                            sum[o] += value * Sum(tap[o * weights.strides[0]]);
                    }
                }
            }
        }
    }

    // Where element `k` of the window of output `at` lies, along x (0) or y (1).
    int source(int at, int k, int axis) const {
        int centre = ((D.kernel_dimensions[axis] - 1) * D.dilations[axis] + 1) / 2;
        return at * D.strides[axis] + k * D.dilations[axis] - centre + offset[axis];
    }
};

}  // namespace tensor_ops
}  // namespace mpp
