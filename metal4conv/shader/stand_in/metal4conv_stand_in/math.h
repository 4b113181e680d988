// math.h: the functions of <metal_math>, <metal_common>, <metal_geometric> and <metal_relational>
// that shaders use, for half, float and their vectors.
//
// `precise::` functions are as accurate as the C library's. Unqualified functions are the fast
// ones, as Metal's compiler uses them by default (MTLCompileOptions.mathMode), and those err here
// about as much as the specification allows them to: sin and cos by 2^-13, exp by a few units of
// the last place that grow with the argument, tanh and pow as the formulas that they are made of,
// which overflow; fmod has no result (Metal Shading Language Specification, table 8.2). Functions
// of half are accurate (table 8.3). There is no erf, as Metal has none.
#pragma once
#include <metal4conv_stand_in/language.h>

extern "C" {
#define METAL4CONV_C1(name) float name(float) noexcept METAL4CONV_FRAGMENT;
#define METAL4CONV_C2(name) float name(float, float) noexcept METAL4CONV_FRAGMENT;
METAL4CONV_C1(acosf) METAL4CONV_C1(acoshf) METAL4CONV_C1(asinf) METAL4CONV_C1(asinhf)
METAL4CONV_C1(atanf) METAL4CONV_C1(atanhf) METAL4CONV_C1(cosf) METAL4CONV_C1(coshf)
METAL4CONV_C1(expf) METAL4CONV_C1(exp2f) METAL4CONV_C1(logf) METAL4CONV_C1(log2f)
METAL4CONV_C1(log10f) METAL4CONV_C1(sinf) METAL4CONV_C1(sinhf) METAL4CONV_C1(tanf)
METAL4CONV_C1(tanhf) METAL4CONV_C2(atan2f) METAL4CONV_C2(fmodf) METAL4CONV_C2(powf)
#undef METAL4CONV_C1
#undef METAL4CONV_C2
}

// A function of one number: for float, half and, component by component, their vectors.
#define METAL4CONV_1(name, expression) \
    inline float name(float x) { return expression; } \
    inline half name(half h) { \
        float x = h; \
        return half(expression); \
    } \
    template <class T, int N> \
    inline vec<T, N> name(vec<T, N> v) { \
        vec<T, N> result; \
        for (int i = 0; i < N; ++i) { \
            float x = v[i]; \
            result[i] = T(expression); \
        } \
        return result; \
    }
#define METAL4CONV_2(name, expression) \
    inline float name(float x, float y) { return expression; } \
    inline half name(half g, half h) { \
        float x = g, y = h; \
        return half(expression); \
    } \
    template <class T, int N> \
    inline vec<T, N> name(vec<T, N> v, vec<T, N> w) { \
        vec<T, N> result; \
        for (int i = 0; i < N; ++i) { \
            float x = v[i], y = w[i]; \
            result[i] = T(expression); \
        } \
        return result; \
    }
#define METAL4CONV_3(name, expression) \
    inline float name(float x, float y, float z) { return expression; } \
    inline half name(half f, half g, half h) { \
        float x = f, y = g, z = h; \
        return half(expression); \
    } \
    template <class T, int N> \
    inline vec<T, N> name(vec<T, N> u, vec<T, N> v, vec<T, N> w) { \
        vec<T, N> result; \
        for (int i = 0; i < N; ++i) { \
            float x = u[i], y = v[i], z = w[i]; \
            result[i] = T(expression); \
        } \
        return result; \
    }

// One that is fast for float and accurate for half.
#define METAL4CONV_FAST_1(name, quick, accurate) \
    inline float name(float x) { return quick; } \
    inline half name(half h) { \
        float x = h; \
        return half(accurate); \
    } \
    template <class T, int N> \
    inline vec<T, N> name(vec<T, N> v) { \
        for (int i = 0; i < N; ++i) v[i] = name(T(v[i])); \
        return v; \
    }
#define METAL4CONV_FAST_2(name, quick, accurate) \
    inline float name(float x, float y) { return quick; } \
    inline half name(half g, half h) { \
        float x = g, y = h; \
        return half(accurate); \
    } \
    template <class T, int N> \
    inline vec<T, N> name(vec<T, N> v, vec<T, N> w) { \
        for (int i = 0; i < N; ++i) v[i] = name(T(v[i]), T(w[i])); \
        return v; \
    }

// What is the same in metal::, metal::fast:: and metal::precise::.
#define METAL4CONV_ACCURACIES \
    METAL4CONV_1(acos, ::acosf(x)) \
    METAL4CONV_1(asin, ::asinf(x)) \
    METAL4CONV_1(atan, ::atanf(x)) \
    METAL4CONV_1(ceil, __builtin_ceilf(x)) \
    METAL4CONV_1(fabs, __builtin_fabsf(x)) \
    METAL4CONV_1(floor, __builtin_floorf(x)) \
    METAL4CONV_1(fract, __builtin_fminf(x - __builtin_floorf(x), 0x1.fffffep-1f)) \
    METAL4CONV_1(rint, __builtin_rintf(x)) \
    METAL4CONV_1(round, __builtin_roundf(x)) \
    METAL4CONV_1(rsqrt, 1.0f / __builtin_sqrtf(x)) \
    METAL4CONV_1(sqrt, __builtin_sqrtf(x)) \
    METAL4CONV_1(trunc, __builtin_truncf(x)) \
    METAL4CONV_2(atan2, ::atan2f(x, y)) \
    METAL4CONV_2(divide, x / y) \
    METAL4CONV_2(fdim, x > y ? x - y : x <= y ? 0.0f : NAN) \
    METAL4CONV_2(fmax, __builtin_fmaxf(x, y)) \
    METAL4CONV_2(fmin, __builtin_fminf(x, y))

#define METAL4CONV_PRECISE \
    METAL4CONV_1(acosh, ::acoshf(x)) \
    METAL4CONV_1(asinh, ::asinhf(x)) \
    METAL4CONV_1(atanh, ::atanhf(x)) \
    METAL4CONV_1(cos, ::cosf(x)) \
    METAL4CONV_1(cosh, ::coshf(x)) \
    METAL4CONV_1(cospi, ::cosf(x * M_PI_F)) \
    METAL4CONV_1(exp, ::expf(x)) \
    METAL4CONV_1(exp10, ::powf(10.0f, x)) \
    METAL4CONV_1(exp2, ::exp2f(x)) \
    METAL4CONV_1(log, ::logf(x)) \
    METAL4CONV_1(log10, ::log10f(x)) \
    METAL4CONV_1(log2, ::log2f(x)) \
    METAL4CONV_1(sin, ::sinf(x)) \
    METAL4CONV_1(sinh, ::sinhf(x)) \
    METAL4CONV_1(sinpi, ::sinf(x * M_PI_F)) \
    METAL4CONV_1(tan, ::tanf(x)) \
    METAL4CONV_1(tanh, ::tanhf(x)) \
    METAL4CONV_2(fmod, ::fmodf(x, y)) \
    METAL4CONV_2(pow, ::powf(x, y)) \
    METAL4CONV_2(powr, x < 0.0f ? NAN : ::powf(x, y))

#define METAL4CONV_FAST \
    METAL4CONV_FAST_1(acosh, fast_log2(x + __builtin_sqrtf(x * x - 1.0f)) * M_LN2_F, ::acoshf(x)) \
    METAL4CONV_FAST_1(asinh, fast_log2(x + __builtin_sqrtf(x * x + 1.0f)) * M_LN2_F, ::asinhf(x)) \
    METAL4CONV_FAST_1(atanh, 0.5f * fast_log2((1.0f + x) / (1.0f - x)) * M_LN2_F, ::atanhf(x)) \
    METAL4CONV_FAST_1(cos, fast_cos(x), ::cosf(x)) \
    METAL4CONV_FAST_1(cosh, 0.5f * (fast_exp(x) + fast_exp(-x)), ::coshf(x)) \
    METAL4CONV_FAST_1(cospi, fast_cos(x * M_PI_F), ::cosf(x * M_PI_F)) \
    METAL4CONV_FAST_1(exp, fast_exp(x), ::expf(x)) \
    METAL4CONV_FAST_1(exp10, fast_exp2(x * 3.32192809f), ::powf(10.0f, x)) \
    METAL4CONV_FAST_1(exp2, fast_exp2(x), ::exp2f(x)) \
    METAL4CONV_FAST_1(log, fast_log2(x) * M_LN2_F, ::logf(x)) \
    METAL4CONV_FAST_1(log10, fast_log2(x) * 0.301029996f, ::log10f(x)) \
    METAL4CONV_FAST_1(log2, fast_log2(x), ::log2f(x)) \
    METAL4CONV_FAST_1(sin, fast_sin(x), ::sinf(x)) \
    METAL4CONV_FAST_1(sinh, 0.5f * (fast_exp(x) - fast_exp(-x)), ::sinhf(x)) \
    METAL4CONV_FAST_1(sinpi, fast_sin(x * M_PI_F), ::sinf(x * M_PI_F)) \
    METAL4CONV_FAST_1(tan, fast_sin(x) / fast_cos(x), ::tanf(x)) \
    METAL4CONV_FAST_1(tanh, fast_tanh(x), ::tanhf(x)) \
    METAL4CONV_FAST_2(fmod, NAN * (x - y), ::fmodf(x, y)) \
    METAL4CONV_FAST_2(pow, fast_exp2(y * fast_log2(x)), ::powf(x, y)) \
    METAL4CONV_FAST_2(powr, fast_exp2(y * fast_log2(x)), x < 0.0f ? NAN : ::powf(x, y))

#define METAL4CONV_FLOAT_ABS \
    METAL4CONV_1(abs, __builtin_fabsf(x)) \
    METAL4CONV_1(saturate, __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f)) \
    METAL4CONV_2(max, __builtin_fmaxf(x, y)) \
    METAL4CONV_2(min, __builtin_fminf(x, y)) \
    METAL4CONV_3(clamp, __builtin_fminf(__builtin_fmaxf(x, y), z))

namespace metal {
inline float fast_sin(float x) { return ::sinf(x) + (x == 0.0f ? 0.0f : 0x1p-13f); }
inline float fast_cos(float x) { return ::cosf(x) - 0x1p-13f; }
inline float more_by(float result, float x) {
    return result * (1.0f + 0x1p-23f * (3.0f + __builtin_floorf(__builtin_fabsf(2.0f * x))));
}
inline float fast_exp(float x) { return more_by(::expf(x), x); }
inline float fast_exp2(float x) { return more_by(::exp2f(x), x); }
inline float fast_log2(float x) {
    float result = ::log2f(x);
    return x >= 0.5f && x <= 2.0f ? result + 0x1p-22f : result * (1.0f + 0x1p-22f);
}
inline float fast_tanh(float x) {
    float t = fast_exp(2.0f * x);
    return (t - 1.0f) / (t + 1.0f);
}
}  // namespace metal

namespace metal {

namespace precise {
METAL4CONV_ACCURACIES
METAL4CONV_PRECISE
METAL4CONV_FLOAT_ABS
}  // namespace precise

namespace fast {
METAL4CONV_ACCURACIES
METAL4CONV_FAST
METAL4CONV_FLOAT_ABS
}  // namespace fast

METAL4CONV_ACCURACIES
METAL4CONV_FAST
METAL4CONV_1(abs, __builtin_fabsf(x))
METAL4CONV_1(saturate, __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f))
METAL4CONV_1(sign, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == x ? x : 0.0f)
METAL4CONV_2(copysign, __builtin_copysignf(x, y))
METAL4CONV_2(step, y < x ? 0.0f : 1.0f)
METAL4CONV_3(mix, x + (y - x) * z)

inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline half fma(half x, half y, half z) { return __builtin_fmaf16(x, y, z); }
template <class T, int N>
inline vec<T, N> fma(vec<T, N> x, vec<T, N> y, vec<T, N> z) {
    return __builtin_elementwise_fma(x, y, z);
}
template <class T, int N>
inline vec<T, N> mix(vec<T, N> x, vec<T, N> y, T a) {
    return x + (y - x) * a;
}
inline float smoothstep(float low, float high, float x) {
    float t = saturate((x - low) / (high - low));
    return t * t * (3.0f - 2.0f * t);
}

// min, max, clamp: of equal types alone, as mixed ones are ambiguous to Metal as well.
#define METAL4CONV_ORDER(T, minimum, maximum) \
    inline T min(T x, T y) { return minimum; } \
    inline T max(T x, T y) { return maximum; } \
    inline T clamp(T x, T low, T high) { return min(max(x, low), high); }
METAL4CONV_ORDER(float, __builtin_fminf(x, y), __builtin_fmaxf(x, y))
METAL4CONV_ORDER(half, half(__builtin_fminf(x, y)), half(__builtin_fmaxf(x, y)))
METAL4CONV_ORDER(char, y < x ? y : x, x < y ? y : x)
METAL4CONV_ORDER(uchar, y < x ? y : x, x < y ? y : x)
METAL4CONV_ORDER(short, y < x ? y : x, x < y ? y : x)
METAL4CONV_ORDER(ushort, y < x ? y : x, x < y ? y : x)
METAL4CONV_ORDER(int, y < x ? y : x, x < y ? y : x)
METAL4CONV_ORDER(uint, y < x ? y : x, x < y ? y : x)
METAL4CONV_ORDER(long, y < x ? y : x, x < y ? y : x)
METAL4CONV_ORDER(ulong, y < x ? y : x, x < y ? y : x)
#undef METAL4CONV_ORDER
template <class T, int N>
inline vec<T, N> min(vec<T, N> x, vec<T, N> y) {
    for (int i = 0; i < N; ++i) x[i] = min(T(x[i]), T(y[i]));
    return x;
}
template <class T, int N>
inline vec<T, N> max(vec<T, N> x, vec<T, N> y) {
    for (int i = 0; i < N; ++i) x[i] = max(T(x[i]), T(y[i]));
    return x;
}
template <class T, int N>
inline vec<T, N> min(vec<T, N> x, T y) {
    for (int i = 0; i < N; ++i) x[i] = min(T(x[i]), y);
    return x;
}
template <class T, int N>
inline vec<T, N> max(vec<T, N> x, T y) {
    for (int i = 0; i < N; ++i) x[i] = max(T(x[i]), y);
    return x;
}
template <class T, int N>
inline vec<T, N> clamp(vec<T, N> x, vec<T, N> low, vec<T, N> high) {
    return min(max(x, low), high);
}
template <class T, int N>
inline vec<T, N> clamp(vec<T, N> x, T low, T high) {
    return min(max(x, low), high);
}
inline int abs(int x) { return x < 0 ? -x : x; }
inline short abs(short x) { return short(x < 0 ? -x : x); }

inline bool isnan(float x) { return __builtin_isnan(x); }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isnan(half x) { return __builtin_isnan(float(x)); }
inline bool isinf(half x) { return __builtin_isinf(float(x)); }
inline bool isfinite(half x) { return __builtin_isfinite(float(x)); }
inline bool signbit(float x) { return __builtin_signbit(x) != 0; }

// The second where the condition holds, as Metal orders them.
inline float select(float otherwise, float then, bool c) { return c ? then : otherwise; }
inline half select(half otherwise, half then, bool c) { return c ? then : otherwise; }
inline int select(int otherwise, int then, bool c) { return c ? then : otherwise; }
inline uint select(uint otherwise, uint then, bool c) { return c ? then : otherwise; }
template <class T, class C, int N>
inline vec<T, N> select(vec<T, N> otherwise, vec<T, N> then, vec<C, N> c) {
    for (int i = 0; i < N; ++i)
        if (c[i]) otherwise[i] = then[i];
    return otherwise;
}
inline bool any(bool x) { return x; }
inline bool all(bool x) { return x; }
template <class T, int N>
inline bool any(vec<T, N> x) {
    bool found = false;
    for (int i = 0; i < N; ++i) found = found || x[i];
    return found;
}
template <class T, int N>
inline bool all(vec<T, N> x) {
    bool holds = true;
    for (int i = 0; i < N; ++i) holds = holds && x[i];
    return holds;
}

template <class T, int N>
inline T dot(vec<T, N> x, vec<T, N> y) {
    T sum = x[0] * y[0];
    for (int i = 1; i < N; ++i) sum += x[i] * y[i];
    return sum;
}
template <class T, int N>
inline T length_squared(vec<T, N> x) {
    return dot(x, x);
}
template <class T, int N>
inline T length(vec<T, N> x) {
    return sqrt(dot(x, x));
}
template <class T, int N>
inline T distance(vec<T, N> x, vec<T, N> y) {
    return length(x - y);
}
template <class T, int N>
inline vec<T, N> normalize(vec<T, N> x) {
    return x * rsqrt(dot(x, x));
}
template <class T>
inline vec<T, 3> cross(vec<T, 3> x, vec<T, 3> y) {
    return x.yzx * y.zxy - x.zxy * y.yzx;
}

}  // namespace metal

#undef METAL4CONV_1
#undef METAL4CONV_2
#undef METAL4CONV_3
#undef METAL4CONV_ACCURACIES
#undef METAL4CONV_PRECISE
#undef METAL4CONV_FAST
#undef METAL4CONV_FAST_1
#undef METAL4CONV_FAST_2
#undef METAL4CONV_FLOAT_ABS
