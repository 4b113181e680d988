// A number for each expression, in the order of test_stand_in_language.py.

#include <metal_stdlib>
using namespace metal;

struct pair {
    float3 first;
    half second;
};

constant float table[] = {0.5f, 1.5f, 2.5f};
constant int three = 3;

inline float3 doubled(thread const float3 &v)
{
    return 2.0f * v;
}

kernel void arithmetic(const device half4 *h [[buffer(0)]], device float *y [[buffer(1)]])
{
    int n = 0;

    // half: rounded after each operation
    y[n++] = float(2048.0h + 1.0h);
    y[n++] = float(half(1.0f) / half(3.0f));
    y[n++] = float(half(65520.0f));
    y[n++] = float(half(0.1f) * half(10.0f) + half(1.0f));
    y[n++] = float(bfloat(1.00390625f));
    bfloat computed = bfloat(float(h[0].x));
    y[n++] = float(bfloat(float(computed) * 1.01171875f));

    // vectors: made, converted, picked
    float4 made = float4(1.0f, float2(2.0f, 3.0f), 4.0f);
    y[n++] = made.w * 1000.0f + made.z * 100.0f + made.y * 10.0f + made.x;
    float4 listed = float4{1.0f, made.w, made.z, 7.0f};
    y[n++] = listed.y * 10.0f + listed.z;
    float4 converted = float4(h[1]);
    y[n++] = converted.x + converted.w;
    y[n++] = float4(5.0f).z;
    y[n++] = made.zyx.x + made.xxxx.w;
    half4 rounded = half4(float4(2049.0f, 0.0f, 0.0f, -1.0f));
    y[n++] = float(rounded.x);
    uchar4 bytes = uchar4(255, 1, 2, 3);
    y[n++] = float(bytes.x) / 255.0f + float(bytes.w);
    y[n++] = doubled(float3(1.0f, 2.0f, 3.0f)).y;
    pair both = {float3(1.0f), 2.0h};
    y[n++] = both.first.z + float(both.second);
    y[n++] = table[2] + float(three);

    // bits
    y[n++] = float(as_type<uint>(1.0f) >> 23);
    y[n++] = float(as_type<ushort>(1.0h));
    y[n++] = as_type<half2>(0x40003c00u).y;

    // rounding
    y[n++] = round(2.5f);
    y[n++] = rint(2.5f);
    y[n++] = round(-2.5f);
    y[n++] = trunc(-2.7f);
    y[n++] = floor(-2.1f);
    y[n++] = ceil(-2.9f);
    y[n++] = fract(-0.25f);
    y[n++] = precise::fmod(-7.0f, 3.0f);

    // choice
    y[n++] = select(1.0f, 2.0f, true);
    y[n++] = mix(10.0f, 20.0f, 0.25f);
    y[n++] = step(1.0f, 1.0f) * 10.0f + step(1.0f, 0.5f);
    y[n++] = clamp(5.0f, -1.0f, 1.0f);
    y[n++] = saturate(-3.0f) + saturate(float4(0.25f, 2.0f, 0.0f, 0.0f)).y;
    y[n++] = sign(-3.0f) * 100.0f + sign(0.0f) * 10.0f + sign(7.0f);
    y[n++] = max(NAN, 3.0f);
    y[n++] = float(max(-4, 3) + min(7, 2));
    y[n++] = max(float4(1.0f, 5.0f, 2.0f, 2.0f), 3.0f).x;
    y[n++] = float(any(float4(0.0f, 1.0f, 0.0f, 0.0f) > 0.5f)) * 10.0f
        + float(all(float4(0.0f, 1.0f, 0.0f, 0.0f) > 0.5f));

    // functions
    y[n++] = fma(2.0f, 3.0f, 4.0f);
    y[n++] = precise::exp(1.0f);
    y[n++] = precise::exp2(10.0f);
    y[n++] = precise::log2(8.0f) + precise::log10(1000.0f) + precise::log(1.0f);
    y[n++] = precise::pow(2.0f, 0.5f);
    y[n++] = rsqrt(4.0f) + sqrt(9.0f);
    y[n++] = precise::sin(M_PI_F / 6.0f);
    y[n++] = round(1e7f * (tanh(0.5f) - fast::tanh(0.5f)));
    y[n++] = atan2(1.0f, -1.0f);
    y[n++] = dot(float3(1.0f, 2.0f, 3.0f), float3(4.0f, 5.0f, 6.0f));
    y[n++] = length(float2(3.0f, 4.0f));
    y[n++] = cross(float3(1.0f, 0.0f, 0.0f), float3(0.0f, 1.0f, 0.0f)).z;
    y[n++] = normalize(float3(0.0f, 0.0f, 5.0f)).z;
    y[n++] = float(exp(0.5h));

    // fast functions promise less
    y[n++] = fabs(sin(1.0f) - precise::sin(1.0f)) > 1e-4f ? 1.0f : 0.0f;
    y[n++] = fabs(precise::tanh(60.0f) - 1.0f) + (isnan(tanh(60.0f)) ? 2.0f : 0.0f);
    y[n++] = float(tanh(60.0h)) + fabs(precise::sinh(1e-4f) - 1e-4f);
    y[n++] = precise::pow(-2.0f, 3.0f) + (isnan(pow(-2.0f, 3.0f)) ? 1.0f : 0.0f);
}
