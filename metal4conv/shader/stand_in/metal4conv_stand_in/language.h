// language.h: keywords, types and constructors of the Metal Shading Language for clang.
//
// Address spaces are clang's, with numbers of our own, so that mixing them is an error as it is in
// Metal. Vectors are clang's `ext_vector_type`. A fragment function is one that may not block, and
// what makes threads wait for one another is declared as blocking: clang then finds a simdgroup's
// operation in a fragment function through any chain of calls and templates.
#pragma once

#define __METAL_VERSION__ 400
#define __HAVE_BFLOAT__ 1
#ifndef METAL4CONV_STAND_IN_WITHOUT_TENSORS
#define __HAVE_TENSOR__ 1
#endif

// The oldest system that has to run the shader: major version * 100 + minor version.
#ifndef METAL4CONV_STAND_IN_SYSTEM
#define METAL4CONV_STAND_IN_SYSTEM 2600
#endif

#define METAL4CONV_DEVICE __attribute__((address_space(1)))
#define METAL4CONV_CONSTANT __attribute__((address_space(2)))
#define METAL4CONV_THREADGROUP __attribute__((address_space(3)))
#define METAL4CONV_FRAGMENT __attribute__((nonblocking))
#define METAL4CONV_BLOCKING __attribute__((blocking))

#define device METAL4CONV_DEVICE
#define constant const METAL4CONV_CONSTANT
// In an attribute the compiler's driver has renamed it: [[threadgroup_index(0)]].
#define threadgroup METAL4CONV_THREADGROUP
#define thread
#define kernel
#define vertex
#define fragment METAL4CONV_FRAGMENT

// `constant bool name [[function_constant(0)]];` gets its value from what the driver defined.
#define function_constant(index) \
    maybe_unused]] = METAL4CONV_FUNCTION_CONSTANTS[::metal4conv_stand_in::in_order[index
namespace metal4conv_stand_in {
constexpr int in_order[] = {0, 1, 2, 3, 4, 5, 6, 7};
}

typedef _Float16 half;
typedef __bf16 bfloat;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef char int8_t;  // compiled with -fsigned-char
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long int64_t;
typedef unsigned long uint64_t;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;

constexpr half operator""h(long double value) { return half(value); }
constexpr half operator""H(long double value) { return half(value); }
constexpr bfloat operator""bf(long double value) { return bfloat(float(value)); }

// How clang rounds float to bfloat where no instruction does: to the nearest, ties to even. It
// belongs to the compiler's run-time library, which is not everywhere.
extern "C" __attribute__((weak, visibility("hidden"))) bfloat __truncsfbf2(float value)
    METAL4CONV_FRAGMENT;
extern "C" __attribute__((weak, visibility("hidden"))) bfloat __truncsfbf2(float value) {
    uint bits = __builtin_bit_cast(uint, value);
    uint rounded = value != value ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u);
    return __builtin_bit_cast(bfloat, ushort(rounded >> 16));
}

namespace metal {

template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));

template <class T, size_t N>
struct array {
    T elements[N];
    constexpr T &operator[](size_t i) { return elements[i]; }
    constexpr const T &operator[](size_t i) const { return elements[i]; }
    static constexpr size_t size() { return N; }
};

template <class T, T V>
struct integral_constant {
    static constexpr T value = V;
    constexpr operator T() const { return V; }
};
using true_type = integral_constant<bool, true>;
using false_type = integral_constant<bool, false>;
template <class T, class U>
constexpr bool is_same_v = __is_same(T, U);
template <bool C, class A, class B>
struct conditional {
    using type = A;
};
template <class A, class B>
struct conditional<false, A, B> {
    using type = B;
};
template <bool C, class A, class B>
using conditional_t = typename conditional<C, A, B>::type;

template <class T>
struct numeric_limits;
template <>
struct numeric_limits<float> {
    static constexpr float max() { return __FLT_MAX__; }
    static constexpr float lowest() { return -__FLT_MAX__; }
    static constexpr float min() { return __FLT_MIN__; }
    static constexpr float epsilon() { return __FLT_EPSILON__; }
    static constexpr float infinity() { return __builtin_inff(); }
    static constexpr float quiet_NaN() { return __builtin_nanf(""); }
};
template <>
struct numeric_limits<half> {
    static constexpr half max() { return half(65504.0f); }
    static constexpr half lowest() { return half(-65504.0f); }
    static constexpr half min() { return half(0x1p-14f); }
    static constexpr half epsilon() { return half(0x1p-10f); }
    static constexpr half infinity() { return half(__builtin_inff()); }
    static constexpr half quiet_NaN() { return half(__builtin_nanf("")); }
};
template <>
struct numeric_limits<int> {
    static constexpr int max() { return 2147483647; }
    static constexpr int lowest() { return -2147483647 - 1; }
    static constexpr int min() { return lowest(); }
};
template <>
struct numeric_limits<uint> {
    static constexpr uint max() { return 4294967295u; }
    static constexpr uint lowest() { return 0; }
    static constexpr uint min() { return 0; }
};

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }

}  // namespace metal

namespace metal4conv_stand_in {

template <class T>
struct parts {
    static constexpr int count = 1;
    using element = T;
};
template <class T, int N>
struct parts<T __attribute__((ext_vector_type(N)))> {
    static constexpr int count = N;
    using element = T;
};

// An element type without const and address space, and the number of its address space.
template <class T>
struct memory {
    static constexpr int space = 0;
    using type = T;
};
template <class T>
struct memory<const T> : memory<T> {};
template <class T>
struct memory<METAL4CONV_DEVICE T> {
    static constexpr int space = 1;
    using type = T;
};
template <class T>
struct memory<const METAL4CONV_DEVICE T> : memory<METAL4CONV_DEVICE T> {};
template <class T>
struct memory<METAL4CONV_CONSTANT T> {
    static constexpr int space = 2;
    using type = T;
};
template <class T>
struct memory<const METAL4CONV_CONSTANT T> : memory<METAL4CONV_CONSTANT T> {};
template <class T>
struct memory<METAL4CONV_THREADGROUP T> {
    static constexpr int space = 3;
    using type = T;
};
template <class T>
struct memory<const METAL4CONV_THREADGROUP T> : memory<METAL4CONV_THREADGROUP T> {};

template <class V, class... A>
constexpr V make_vector(A... arguments) {
    using element = typename parts<V>::element;
    constexpr int count = parts<V>::count;
    if constexpr (sizeof...(A) == 0) {
        return V{};
    } else if constexpr (sizeof...(A) == 1) {
        if constexpr ((parts<A>::count + ...) == 1) {
            return V(element((arguments, ...)));
        } else {
            static_assert((parts<A>::count + ...) == count,
                          "rule: a vector is converted to one of the same number of components");
            return __builtin_convertvector((arguments, ...), V);
        }
    } else {
        static_assert((parts<A>::count + ...) == count,
                      "rule: a vector is made of one number, or of as many as it has components");
        element values[count] = {};
        int next = 0;
        auto append = [&](auto argument) {
            if constexpr (parts<decltype(argument)>::count == 1) {
                values[next++] = element(argument);
            } else {
                for (int i = 0; i < parts<decltype(argument)>::count; ++i)
                    values[next++] = element(argument[i]);
            }
        };
        (append(arguments), ...);
        V result{};
        for (int i = 0; i < count; ++i) result[i] = values[i];
        return result;
    }
}

}  // namespace metal4conv_stand_in

#define METAL4CONV_VECTORS(T) \
    using T##2 = metal::vec<T, 2>; \
    using T##3 = metal::vec<T, 3>; \
    using T##4 = metal::vec<T, 4>;
METAL4CONV_VECTORS(bool)
METAL4CONV_VECTORS(char)
METAL4CONV_VECTORS(uchar)
METAL4CONV_VECTORS(short)
METAL4CONV_VECTORS(ushort)
METAL4CONV_VECTORS(int)
METAL4CONV_VECTORS(uint)
METAL4CONV_VECTORS(half)
METAL4CONV_VECTORS(bfloat)
METAL4CONV_VECTORS(float)
#undef METAL4CONV_VECTORS

namespace metal {
using ::bfloat2, ::bfloat3, ::bfloat4, ::half2, ::half3, ::half4, ::float2, ::float3, ::float4;
using ::int2, ::int3, ::int4, ::uint2, ::uint3, ::uint4;
}  // namespace metal

// Constructors of vectors as Metal has them: float4(x), float4(a, b, c, d), float4(v3, w), and the
// conversion float4(h4), none of which clang's vectors know.
#define char2(...) (::metal4conv_stand_in::make_vector<char2>(__VA_ARGS__))
#define char3(...) (::metal4conv_stand_in::make_vector<char3>(__VA_ARGS__))
#define char4(...) (::metal4conv_stand_in::make_vector<char4>(__VA_ARGS__))
#define uchar2(...) (::metal4conv_stand_in::make_vector<uchar2>(__VA_ARGS__))
#define uchar3(...) (::metal4conv_stand_in::make_vector<uchar3>(__VA_ARGS__))
#define uchar4(...) (::metal4conv_stand_in::make_vector<uchar4>(__VA_ARGS__))
#define short2(...) (::metal4conv_stand_in::make_vector<short2>(__VA_ARGS__))
#define short3(...) (::metal4conv_stand_in::make_vector<short3>(__VA_ARGS__))
#define short4(...) (::metal4conv_stand_in::make_vector<short4>(__VA_ARGS__))
#define ushort2(...) (::metal4conv_stand_in::make_vector<ushort2>(__VA_ARGS__))
#define ushort3(...) (::metal4conv_stand_in::make_vector<ushort3>(__VA_ARGS__))
#define ushort4(...) (::metal4conv_stand_in::make_vector<ushort4>(__VA_ARGS__))
#define int2(...) (::metal4conv_stand_in::make_vector<int2>(__VA_ARGS__))
#define int3(...) (::metal4conv_stand_in::make_vector<int3>(__VA_ARGS__))
#define int4(...) (::metal4conv_stand_in::make_vector<int4>(__VA_ARGS__))
#define uint2(...) (::metal4conv_stand_in::make_vector<uint2>(__VA_ARGS__))
#define uint3(...) (::metal4conv_stand_in::make_vector<uint3>(__VA_ARGS__))
#define uint4(...) (::metal4conv_stand_in::make_vector<uint4>(__VA_ARGS__))
#define half2(...) (::metal4conv_stand_in::make_vector<half2>(__VA_ARGS__))
#define half3(...) (::metal4conv_stand_in::make_vector<half3>(__VA_ARGS__))
#define half4(...) (::metal4conv_stand_in::make_vector<half4>(__VA_ARGS__))
#define float2(...) (::metal4conv_stand_in::make_vector<float2>(__VA_ARGS__))
#define float3(...) (::metal4conv_stand_in::make_vector<float3>(__VA_ARGS__))
#define float4(...) (::metal4conv_stand_in::make_vector<float4>(__VA_ARGS__))

namespace metal {
template <class To, class From>
constexpr To as_type(From value) {
    static_assert(sizeof(To) == sizeof(From), "rule: as_type keeps the size");
    return __builtin_bit_cast(To, value);
}
}  // namespace metal
using metal::as_type;

#define METAL_FUNC inline
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LN2_F 0.693147180559945309417f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define FLT_MAX __FLT_MAX__
#define FLT_MIN __FLT_MIN__
#define FLT_EPSILON __FLT_EPSILON__
#define MAXFLOAT __FLT_MAX__
#define HALF_MAX (half(65504.0f))
#define INFINITY (__builtin_inff())
#define NAN (__builtin_nanf(""))
