// Fragment functions: where they are, what they sample, several colours.

#include <metal_stdlib>
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
