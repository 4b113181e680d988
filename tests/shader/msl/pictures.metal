// Fragment functions: where they are, what they sample, several colours.

#include <metal_stdlib>
#include <metal_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;

constant bool pictures_doubled [[function_constant(0)]];
constant bool pictures_shifted [[function_constant(1)]];

struct varyings {
    float4 position [[position]];
    float2 uv;
};

struct colours {
    float4 first [[color(0)]];
    half2 second [[color(1)]];
};

fragment colours places(varyings in [[stage_in]])
{
    float scale = pictures_doubled ? 2.0f : 1.0f;
    float shift = pictures_shifted ? 100.0f : 0.0f;
    return {float4(in.uv, in.position.xy) * scale + shift, half2(half(in.position.x), 0.5h)};
}

fragment float4 sampled(varyings in [[stage_in]], texture2d<float> picture [[texture(0)]],
                        sampler how [[sampler(0)]])
{
    return picture.sample(how, in.uv);
}

fragment float4 smooth(varyings in [[stage_in]], texture2d<float> picture [[texture(0)]])
{
    constexpr sampler wrapped(filter::linear, address::repeat);
    return picture.sample(wrapped, in.uv + float2(0.5f, 0.0f), level(0.0f));
}

fragment float4 texels(varyings in [[stage_in]], texture2d<half, access::read> picture [[texture(0)]])
{
    uint2 at = uint2(in.position.xy);
    return float4(picture.read(at)) + float4(0.0f, 0.0f, 0.0f, float(picture.get_width()));
}

// One thread has all elements of a cooperative tensor, in an order of its own.
fragment float4 alone(varyings in [[stage_in]])
{
    half a[32] = {}, b[32 * 16] = {};
    for (int i = 0; i < 16; ++i) b[i * 32] = half(i);
    a[0] = half(in.position.x);
    auto left = tensor(a, extents<int, 32, 1>());
    auto right = tensor(b, extents<int, 32, 16>());
    constexpr mpp::tensor_ops::matmul2d_descriptor d(1, 16, 32, false, true);
    mpp::tensor_ops::matmul2d<d, execution_thread> multiply;
    auto sums = multiply.get_destination_cooperative_tensor<
        decltype(left), decltype(right), float>();
    multiply.run(left, right, sums);
    float4 result = 0.0f;
    for (ushort i = 0; i < sums.get_capacity(); ++i) {
        if (!sums.is_valid_element(i)) continue;
        int column = sums.get_multidimensional_index(i)[0];
        if (column < 4) result[column] = sums[i];
    }
    return result;
}
