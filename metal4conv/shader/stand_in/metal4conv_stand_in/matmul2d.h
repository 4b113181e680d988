// matmul2d.h: matrix multiplication of Metal Performance Primitives.
//
// C = A · B, or C = A · B + C, with A of m × k, B of k × n and C of m × n. As tensors, whose first
// dimension is the innermost, A has extents (k, m), B (n, k) and C (n, m); transposed ones have
// the two exchanged. Sums are float32 and rounded once to what C holds; int32 for integers.
//
// Tensors may be larger than what the descriptor names, and then their corner is used; rows of A
// and columns of B that are missing give nothing to a tensor and not-a-number to a cooperative one.
// A missing part of k ends the run with a message.
#pragma once
#include <metal4conv_stand_in/cooperative_tensor.h>
#include <metal4conv_stand_in/lanes.h>
#include <metal4conv_stand_in/language.h>
#include <metal4conv_stand_in/tensor.h>

namespace mpp::tensor_ops {

template <class T>
struct dynamic_length {
    static constexpr T value = metal::numeric_limits<T>::max();
};
template <class T>
constexpr T dynamic_length_v = dynamic_length<T>::value;

struct matmul2d_descriptor {
    enum class mode { multiply, multiply_accumulate };

    int m, n, k;
    bool transpose_left, transpose_right;
    bool relaxed_precision;
    mode matmul_mode;

    constexpr matmul2d_descriptor(int rows, int columns, int inner = int(metal::dynamic_extent),
                                  bool transposed_left = false, bool transposed_right = false,
                                  bool relaxed = false, mode what = mode::multiply)
        : m(rows), n(columns), k(inner), transpose_left(transposed_left),
          transpose_right(transposed_right), relaxed_precision(relaxed), matmul_mode(what) {}

    constexpr bool has_dynamic_k() const {
        return k == int(metal::dynamic_extent) || k == dynamic_length_v<int>;
    }
};

}  // namespace mpp::tensor_ops

namespace metal4conv_stand_in {

using mpp::tensor_ops::matmul2d_descriptor;

template <class T, class... U>
constexpr bool is_one_of = (metal::is_same_v<T, U> || ...);
template <class T>
constexpr bool is_byte = is_one_of<T, char, uchar>;
constexpr int never = 9999;

// The first system (major * 100 + minor) that multiplies these types; `never` for none.
template <class A, class B, class C>
constexpr int first_system() {
    if (is_byte<A> && is_byte<B>) return is_one_of<C, int, float, half> ? 2600 : never;
    if (is_one_of<A, half, float> && is_one_of<B, half, float>) {
        bool halves = metal::is_same_v<A, half> && metal::is_same_v<B, half>;
        return metal::is_same_v<C, float> || (halves && metal::is_same_v<C, half>) ? 2600 : never;
    }
    if (is_one_of<bfloat, A, B>) {
        if (is_one_of<half, A, B, C>) return never;
        if (is_byte<A> || is_byte<B>) return is_one_of<C, bfloat, float> ? 2604 : never;
        bool both = metal::is_same_v<A, bfloat> && metal::is_same_v<B, bfloat>;
        return metal::is_same_v<C, float> || (both && metal::is_same_v<C, bfloat>) ? 2601 : never;
    }
    if (is_byte<A> != is_byte<B>) {
        bool float_side = is_one_of<float, A, B>;
        if (!float_side && !is_one_of<half, A, B>) return never;
        return metal::is_same_v<C, float> || (!float_side && metal::is_same_v<C, half>) ? 2604
                                                                                          : never;
    }
    return never;
}

template <class T>
struct operand {
    static constexpr bool is_cooperative = metal::is_cooperative_tensor_v<T>;
    static constexpr int space = 0;
};
template <class E, class X, class D, class... Tags>
struct operand<metal::tensor<E, X, D, Tags...>> {
    static constexpr bool is_cooperative = false;
    static constexpr int space = memory<E>::space;
};

constexpr bool fits(size_t extent, int length) {
    return extent == metal::dynamic_extent || extent == size_t(length);
}

template <class T>
constexpr bool is_operand = metal::is_tensor_v<T> || metal::is_cooperative_tensor_v<T>;

// The rules of the headers and of Metal's specification that types alone decide.
template <matmul2d_descriptor D, class Scope, class A, class B, class C>
constexpr void check_matmul2d() {
    constexpr int simdgroups = scope_simdgroups<Scope>;
    static_assert(simdgroups >= 0, "rule: the scope of matmul2d is execution_thread, "
                                   "execution_simdgroup or execution_simdgroups<N> "
                                   "(MPPTensorOpsMatMul2d.h)");
    static_assert(is_operand<A> && is_operand<B> && is_operand<C>,
                  "rule: matmul2d takes tensors and cooperative tensors (MPPTensorOpsMatMul2d.h)");
    using a = typename A::value_type;
    using b = typename B::value_type;
    using c = typename C::value_type;
    static_assert(!(is_one_of<bfloat, a, b, c> && is_one_of<half, a, b, c>),
                  "rule: matmul2d does not mix bfloat with half (MPPTensorOpsMatMul2d.h)");
    static_assert(first_system<a, b, c>() != never,
                  "rule: matmul2d does not have these types of elements (MPPTensorOpsMatMul2d.h)");
    static_assert(first_system<a, b, c>() == never ||
                      first_system<a, b, c>() <= METAL4CONV_STAND_IN_SYSTEM,
                  "rule: matmul2d has these types of elements only in a later system: bfloat from "
                  "26.1, bytes with floating point from 26.4 (MPPTensorOpsMatMul2d.h)");
    static_assert(METAL4CONV_STAND_IN_SYSTEM >= 2603 ||
                      !(operand<A>::is_cooperative || operand<B>::is_cooperative),
                  "rule: cooperative tensors as what is multiplied need system 26.3 "
                  "(MPPTensorOpsMatMul2d.h)");
    static_assert(D.m > 0 && D.n > 0 && (D.k > 0 || D.has_dynamic_k()),
                  "rule: lengths of matmul2d_descriptor are positive, k may be "
                  "dynamic_length_v<int> (MPPTensorOpsMatMul2d.h)");
#ifndef METAL4CONV_STAND_IN_DROP_REMAINDER
    static_assert(D.has_dynamic_k() || D.k % 32 == 0,
                  "rule: a static k of matmul2d is a multiple of 32, as the remainder is dropped "
                  "in system 26.2; pad it with zeros, or use dynamic_length_v<int>");
#endif
    static_assert(simdgroups == 0 || D.m % 16 == 0 || D.n % 16 == 0,
                  "rule: m or n of a matmul2d of simdgroups is a multiple of 16");
    static_assert(metal::is_same_v<typename A::extents_type::index_type, int> &&
                      metal::is_same_v<typename B::extents_type::index_type, int> &&
                      metal::is_same_v<typename C::extents_type::index_type, int>,
                  "rule: tensors of operations have int as index (MPPTensorOpsMatMul2d.h)");
    static_assert(A::ranks == 2 && B::ranks == 2 && C::ranks == 2,
                  "rule: matmul2d takes tensors of two dimensions (MPPTensorOpsMatMul2d.h)");
    static_assert(simdgroups == 0 ||
                      ((operand<A>::is_cooperative || operand<A>::space != 0) &&
                       (operand<B>::is_cooperative || operand<B>::space != 0) &&
                       (operand<C>::is_cooperative || operand<C>::space != 0)),
                  "rule: tensors in thread memory are for execution_thread alone; simdgroups share "
                  "device and threadgroup memory (MPPTensorOpsMatMul2d.h)");
    if constexpr (A::ranks == 2 && B::ranks == 2 && C::ranks == 2) {
        using x = typename A::extents_type;
        using y = typename B::extents_type;
        using z = typename C::extents_type;
        constexpr size_t left_k = x::static_extent(D.transpose_left ? 1 : 0);
        constexpr size_t right_k = y::static_extent(D.transpose_right ? 0 : 1);
        static_assert(fits(x::static_extent(D.transpose_left ? 0 : 1), D.m),
                      "rule: the left tensor of matmul2d has extents (k, m), transposed (m, k): m "
                      "is not that of the descriptor (MPPTensorOpsMatMul2d.h)");
        static_assert(fits(y::static_extent(D.transpose_right ? 1 : 0), D.n),
                      "rule: the right tensor of matmul2d has extents (n, k), transposed (k, n): n "
                      "is not that of the descriptor (MPPTensorOpsMatMul2d.h)");
        static_assert(fits(z::static_extent(0), D.n) && fits(z::static_extent(1), D.m),
                      "rule: the destination of matmul2d has extents (n, m): they are not those of "
                      "the descriptor (MPPTensorOpsMatMul2d.h)");
        static_assert(D.has_dynamic_k() || (fits(left_k, D.k) && fits(right_k, D.k)),
                      "rule: k of a tensor is not that of matmul2d_descriptor "
                      "(MPPTensorOpsMatMul2d.h)");
        static_assert(left_k == metal::dynamic_extent || fits(right_k, int(left_k)),
                      "rule: k of the left tensor of matmul2d is not k of the right one "
                      "(MPPTensorOpsMatMul2d.h)");
    }
}

// A matrix to read: element (row, inner) of the left one, (column, inner) of the right one.
template <class T, class P>
struct matrix {
    P *data;
    ptrdiff_t outer_stride, inner_stride;
    int outer, inner;
};

template <class E, class X, class D, class... Tags>
inline auto matrix_of(const metal::tensor<E, X, D, Tags...> &of, bool inner_is_second,
                      const char *name) {
    check_memory(of, name);
    int inner = inner_is_second ? 1 : 0;
    return matrix<typename memory<E>::type, E>{of.data, of.strides[1 - inner], of.strides[inner],
                                               of.get_extent(size_t(1 - inner)),
                                               of.get_extent(size_t(inner))};
}

template <class T>
inline float relaxed(T value, bool is_relaxed) {
    float wide = float(value);
    if (!is_relaxed || !metal::is_same_v<T, float>) return wide;
    return __builtin_bit_cast(float, __builtin_bit_cast(uint, wide) & 0xffffe000u);
}

// Not inlined: compiled once for all layers of a shader.
template <bool Relaxed, class Sum, class T, class P, class U, class Q>
__attribute__((noinline)) Sum dot_product(const matrix<T, P> &left, const matrix<U, Q> &right,
                                          int row, int column, int inner) {
#pragma clang fp reassociate(on)
    P *a = left.data + row * left.outer_stride;
    Q *b = right.data + column * right.outer_stride;
    Sum sum = 0;
    if (left.inner_stride == 1 && right.inner_stride == 1) {
        for (int i = 0; i < inner; ++i) {
            if constexpr (metal::is_same_v<Sum, int>) sum += int(a[i]) * int(b[i]);
            else sum += relaxed(a[i], Relaxed) * relaxed(b[i], Relaxed);
        }
        return sum;
    }
    for (int i = 0; i < inner; ++i) {
        if constexpr (metal::is_same_v<Sum, int>)
            sum += int(a[i * left.inner_stride]) * int(b[i * right.inner_stride]);
        else
            sum += relaxed(a[i * left.inner_stride], Relaxed) *
                   relaxed(b[i * right.inner_stride], Relaxed);
    }
    return sum;
}

// How long the inner loop is; a message where the tensors do not have what the descriptor names.
template <matmul2d_descriptor D>
inline int inner_length(int left, int right) {
    if constexpr (D.has_dynamic_k()) {
        if (left != right)
            fail("matmul2d: k of the left tensor is %d, that of the right one %d "
                 "(transpose_left %s, transpose_right %s)",
                 left, right, D.transpose_left ? "true" : "false",
                 D.transpose_right ? "true" : "false");
        return left;
    } else {
        if (left < D.k || right < D.k)
            fail("matmul2d: the descriptor has k = %d, the left tensor %d and the right one %d "
                 "(transpose_left %s, transpose_right %s)",
                 D.k, left, right, D.transpose_left ? "true" : "false",
                 D.transpose_right ? "true" : "false");
        return D.k / 32 * 32;  // the rest is dropped, where the rule about it is off
    }
}

// Calls `take(row, column, sum)` for all of the product that the tensors have.
template <matmul2d_descriptor D, class Sum, class T, class P, class U, class Q, class Take>
inline void multiply(const matrix<T, P> &left, const matrix<U, Q> &right, Take take) {
    int inner = inner_length<D>(left.inner, right.inner);
    int rows = left.outer < D.m ? left.outer : D.m;
    int columns = right.outer < D.n ? right.outer : D.n;
    for (int column = 0; column < columns; ++column)
        for (int row = 0; row < rows; ++row)
            take(row, column,
                 dot_product<D.relaxed_precision, Sum>(left, right, row, column, inner));
}

template <class T>
using sum_of = metal::conditional_t<metal::is_same_v<T, int>, int, float>;

template <matmul2d_descriptor D>
constexpr bool accumulates = D.matmul_mode == matmul2d_descriptor::mode::multiply_accumulate;

// What one thread does alone.
template <matmul2d_descriptor D, class A, class B, class C>
inline void multiply_alone(const A &left, const B &right, C &destination) {
    auto a = matrix_of(left, D.transpose_left, "the left tensor of matmul2d");
    auto b = matrix_of(right, !D.transpose_right, "the right tensor of matmul2d");
    using result = typename C::value_type;
    if constexpr (metal::is_cooperative_tensor_v<C>) {
        sum_of<result> sums[D.m * D.n];
        for (auto &sum : sums)
            sum = metal::is_same_v<result, int> ? sum_of<result>(-2147483647 - 1)
                                                : sum_of<result>(__builtin_nanf(""));
        multiply<D, sum_of<result>>(a, b, [&](int row, int column, auto sum) {
            sums[row * D.n + column] = sum;
        });
        take_sums<D>(destination, sums);
    } else {
        check_memory(destination, "the destination of matmul2d");
        multiply<D, sum_of<result>>(a, b, [&](int row, int column, auto sum) {
            if (row >= destination.get_extent(1) || column >= destination.get_extent(0)) return;
            auto &place = destination[column, row];
            place = result(accumulates<D> ? sum_of<result>(place) + sum : sum);
        });
    }
}

// The elements of one thread, of all the sums.
template <matmul2d_descriptor D, class C, class Sum>
inline void take_sums(C &destination, const Sum *sums) {
    for (uint16_t i = 0; i < destination.get_capacity(); ++i) {
        if (!destination.is_valid_element(i)) continue;
        auto at = destination.get_multidimensional_index(i);
        Sum sum = sums[at[1] * D.n + at[0]];
        auto &place = destination[i];
        place = typename C::value_type(accumulates<D> ? Sum(place) + sum : sum);
    }
}

// Writes the sums to memory that several threads see.
template <matmul2d_descriptor D, class C, class Sum>
inline void store_sums(const void *copy, const void *values) {
    const C &destination = *(const C *)copy;
    const Sum *sums = (const Sum *)values;
    for (int row = 0; row < D.m && row < destination.get_extent(1); ++row)
        for (int column = 0; column < D.n && column < destination.get_extent(0); ++column) {
            Sum sum = sums[row * D.n + column];
            if (sum != sum) continue;  // beyond the operands
            auto &place = destination.data[column * destination.strides[0] +
                                           row * destination.strides[1]];
            place = typename C::value_type(accumulates<D> ? Sum(place) + sum : sum);
        }
}

// A cooperative operand, when all threads have brought their elements: the first dimension is the
// innermost one, as in a tensor.
template <class T, class X, class L>
inline auto gathered(const metal::cooperative_tensor<T, X, L> &, bool inner_is_second,
                     const unsigned char *elements) {
    constexpr int first = int(X::static_extent(0)), second = int(X::static_extent(1));
    const T *data = (const T *)elements;
    return inner_is_second ? matrix<T, const T>{data, 1, first, first, second}
                           : matrix<T, const T>{data, first, 1, second, first};
}

template <class T, class X, class L>
inline void bring_elements(const metal::cooperative_tensor<T, X, L> &from,
                           unsigned char *elements) {
    for (uint16_t i = 0; i < from.get_capacity(); ++i)
        if (from.is_valid_element(i)) ((T *)elements)[L::element(from.lane_index, i)] = from[i];
}

template <class T>
constexpr size_t brought_bytes = 0;
template <class T, class X, class L>
constexpr size_t brought_bytes<metal::cooperative_tensor<T, X, L>> =
    X::static_extent(0) * X::static_extent(1) * sizeof(T);

// An operand as a matrix, whatever it is.
template <class T>
inline auto operand_matrix(const T &of, bool inner_is_second, const char *name,
                           [[maybe_unused]] const unsigned char *elements) {
    if constexpr (metal::is_cooperative_tensor_v<T>)
        return gathered(of, inner_is_second, elements);
    else
        return matrix_of(of, inner_is_second, name);
}

// What a tensor in threadgroup memory holds, as one number; 0 for what only the host writes.
template <class T>
inline uint64_t digest(const T &of) {
    uint64_t result = 0;
    if constexpr (operand<T>::space == 3) {
        result = 0xcbf29ce484222325u;
        for (int outer = 0; outer < of.get_extent(1); ++outer) {
            auto *row = of.data + ptrdiff_t(outer) * of.strides[1];
            for (int inner = 0; inner < of.get_extent(0); ++inner) {
                typename T::value_type value = row[ptrdiff_t(inner) * of.strides[0]];
                uint64_t bits = 0;
                __builtin_memcpy(&bits, &value, sizeof value);
                result = (result ^ bits) * 0x100000001b3u;
            }
        }
    }
    return result;
}

// What all threads of simdgroups do. `matmul2d.run` reads tensors when the first thread comes, and
// writes one when a barrier follows. That nobody writes what it reads until all go on is seen by
// the last one.
template <matmul2d_descriptor D, class Scope, class A, class B, class C>
inline void multiply_together(const A &left, const B &right, C &destination, int line)
    METAL4CONV_BLOCKING {
    using result = typename C::value_type;
    using sum_type = sum_of<result>;
    constexpr size_t sum_bytes = sizeof(sum_type) * D.m * D.n;
    constexpr size_t right_at = sum_bytes + brought_bytes<A>;
    constexpr size_t digest_at = (right_at + brought_bytes<B> + 7) / 8 * 8;
    constexpr size_t bytes = digest_at + 2 * sizeof(uint64_t);
    auto compute = [&](unsigned char *buffer, scope &here) {
        auto a = operand_matrix(left, D.transpose_left, "the left tensor of matmul2d",
                                buffer + sum_bytes);
        auto b = operand_matrix(right, !D.transpose_right, "the right tensor of matmul2d",
                                buffer + right_at);
        *(uint64_t *)(buffer + digest_at) = 0;
        sum_type *sums = (sum_type *)buffer;
        for (int i = 0; i < D.m * D.n; ++i)
            sums[i] = metal::is_same_v<result, int> ? sum_type(-2147483647 - 1)
                                                    : sum_type(__builtin_nanf(""));
        multiply<D, sum_type>(a, b, [&](int row, int column, auto sum) {
            sums[row * D.n + column] = sum;
        });
        if constexpr (!metal::is_cooperative_tensor_v<C>) {
            check_memory(destination, "the destination of matmul2d");
            static_assert(sizeof(C) <= sizeof(here.pending.copy));
            __builtin_memcpy(here.pending.copy, &destination, sizeof(C));
            here.pending.store = store_sums<D, C, sum_type>;
            here.pending.values = buffer;
            here.pending.space = operand<C>::space;
            here.is_pending = true;
        }
    };
    constexpr int simdgroups = scope_simdgroups<Scope>;
    unsigned char *buffer;
    if constexpr (operand<A>::is_cooperative || operand<B>::is_cooperative) {
        auto bring = [&](unsigned char *room) {
            if constexpr (operand<A>::is_cooperative) bring_elements(left, room + sum_bytes);
            if constexpr (operand<B>::is_cooperative) bring_elements(right, room + right_at);
        };
        buffer = together(simdgroups, bytes, "matmul2d.run", line, compute, bring);
    } else {
        buffer = together(simdgroups, bytes, "matmul2d.run", line, compute);
    }
    // the first thread that goes on and the last one
    int place = running->current % (simdgroups * simdgroup_threads);
    if (place == 0 || place == simdgroups * simdgroup_threads - 1) {
        uint64_t *seen = (uint64_t *)(buffer + digest_at);
        uint64_t now = digest(left) ^ digest(right);
        if (seen[0] && seen[1] != now)
            fail("what matmul2d.run (line %d) multiplies is written while other threads still read "
                 "it: a barrier has to stand between",
                 line);
        seen[0] = 1;
        seen[1] = now;
    }
    if constexpr (metal::is_cooperative_tensor_v<C>) take_sums<D>(destination, (sum_type *)buffer);
}

// The type of a cooperative tensor of a scope, with the extents of a matrix.
template <class Scope, class T, int First, int Second>
struct spread {
    static constexpr int simdgroups = scope_simdgroups<Scope>;
    using layout = scattered<simdgroups ? simdgroups * simdgroup_threads : 1, First * Second>;
    using type =
        metal::cooperative_tensor<T, metal::extents<int, size_t(First), size_t(Second)>, layout>;
};
template <matmul2d_descriptor D, class Scope, class T>
struct destination_of : spread<Scope, T, D.n, D.m> {};
template <matmul2d_descriptor D, class Scope, class T, bool Left>
struct input_of {
    static_assert(METAL4CONV_STAND_IN_SYSTEM >= 2603,
                  "rule: cooperative tensors as what is multiplied need system 26.3 "
                  "(MPPTensorOpsMatMul2d.h)");
    static_assert(!D.has_dynamic_k(),
                  "rule: a cooperative tensor as what is multiplied has a static k");
    static constexpr int outer = Left ? D.m : D.n;
    static constexpr bool inner_first = Left ? !D.transpose_left : D.transpose_right;
    using type = typename spread<Scope, T, inner_first ? D.k : outer,
                                 inner_first ? outer : D.k>::type;
};

}  // namespace metal4conv_stand_in

namespace mpp::tensor_ops {

template <matmul2d_descriptor Descriptor, class Scope, class... Args>
struct matmul2d {
    static constexpr matmul2d_descriptor descriptor = Descriptor;
    using scope = Scope;

    // Operands are named tensors: temporaries cannot be passed, as in Metal.
    template <class Left, class Right, class Destination>
    void run(Left &left, Right &right, Destination &destination,
             int line = __builtin_LINE()) const {
        using namespace metal4conv_stand_in;
        check_matmul2d<Descriptor, Scope, Left, Right, Destination>();
        if constexpr (scope_simdgroups<Scope> == 0)
            multiply_alone<Descriptor>(left, right, destination);
        else
            multiply_together<Descriptor, Scope>(left, right, destination, line);
    }

    template <class Left, class Right, class T>
    using cooperative_tensor_destination_t =
        typename metal4conv_stand_in::destination_of<Descriptor, Scope, T>::type;

    template <class Left, class Right, class T, class Coordinate = int>
    auto get_destination_cooperative_tensor() const {
        using namespace metal4conv_stand_in;
        using destination = typename destination_of<Descriptor, Scope, T>::type;
        check_matmul2d<Descriptor, Scope, Left, Right, destination>();
        return destination();
    }

    template <class LeftElement, class RightElement, class T, class Coordinate = int>
    auto get_left_input_cooperative_tensor() const {
        return typename metal4conv_stand_in::input_of<Descriptor, Scope, LeftElement, true>::type();
    }
    template <class LeftElement, class RightElement, class T, class Coordinate = int>
    auto get_right_input_cooperative_tensor() const {
        return
            typename metal4conv_stand_in::input_of<Descriptor, Scope, RightElement, false>::type();
    }
    // A result is never laid out as an input is: a shader needs the way through memory, too.
    template <class LeftElement, class RightElement, class T, class Source>
    bool is_compatible_as_left_input(const Source &) const {
        return false;
    }
    template <class LeftElement, class RightElement, class T, class Source>
    bool is_compatible_as_right_input(const Source &) const {
        return false;
    }
};

}  // namespace mpp::tensor_ops
