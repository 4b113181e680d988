// tensor.h: extents and tensors of <metal_tensor>.
//
// Dimension 0 is the innermost one. A `tensor_handle` is bound by the host, a `tensor_inline` is
// made in the shader over any memory, a `tensor_offset` is a slice. Reading or writing an element
// outside of the extents ends the run with a message.
#pragma once
#include <metal4conv_stand_in/lanes.h>
#include <metal4conv_stand_in/language.h>

namespace metal {

constexpr size_t dynamic_extent = ~size_t(0);

template <class I, size_t... E>
struct extents {
    using index_type = I;
    static constexpr size_t ranks = sizeof...(E);
    static constexpr size_t dynamic_ranks = ((E == dynamic_extent ? 1 : 0) + ... + 0);
    I sizes[ranks ? ranks : 1] = {I(E)...};

    static constexpr size_t rank() { return ranks; }
    static constexpr size_t rank_dynamic() { return dynamic_ranks; }
    static constexpr size_t static_extent(size_t dimension) {
        constexpr size_t all[] = {E...};
        return all[dimension];
    }
    constexpr I extent(size_t dimension) const { return sizes[dimension]; }

    constexpr extents()
        requires(dynamic_ranks == 0)
    = default;
    // All sizes, or those that the type leaves open.
    template <class... S>
        requires(sizeof...(S) > 0 && (sizeof...(S) == ranks || sizeof...(S) == dynamic_ranks))
    constexpr extents(S... given) {
        I values[] = {I(given)...};
        size_t next = 0;
        for (size_t i = 0; i < ranks; ++i)
            if (sizeof...(S) == ranks || static_extent(i) == dynamic_extent)
                sizes[i] = values[next++];
    }
};

template <class I, size_t R>
struct all_dynamic;
template <class I>
struct all_dynamic<I, 1> {
    using type = extents<I, dynamic_extent>;
};
template <class I>
struct all_dynamic<I, 2> {
    using type = extents<I, dynamic_extent, dynamic_extent>;
};
template <class I>
struct all_dynamic<I, 3> {
    using type = extents<I, dynamic_extent, dynamic_extent, dynamic_extent>;
};
template <class I>
struct all_dynamic<I, 4> {
    using type = extents<I, dynamic_extent, dynamic_extent, dynamic_extent, dynamic_extent>;
};
template <class I, size_t R>
using dextents = typename all_dynamic<I, R>::type;

struct tensor_handle {};
struct tensor_inline {};
struct tensor_offset {};

template <class E, class X, class Descriptor = tensor_handle, class... Tags>
struct tensor {
    using element_type = E;
    using value_type = typename metal4conv_stand_in::memory<E>::type;
    using extents_type = X;
    using index_type = typename X::index_type;
    using descriptor_type = Descriptor;
    static constexpr size_t ranks = X::ranks;
    static constexpr int space = metal4conv_stand_in::memory<E>::space;
    static_assert(space != 2, "rule: a tensor lies in device, threadgroup or thread memory "
                              "(MPPTensorOpsTypes.h), not in constant memory");

    E *data;
    X sizes;
    index_type strides[ranks];

    // Only the host makes a handle.
    tensor(E *memory, X all, const array<index_type, ranks> &steps)
        requires(!is_same_v<Descriptor, tensor_handle>)
        : data(memory), sizes(all) {
        for (size_t i = 0; i < ranks; ++i) strides[i] = steps[i];
    }
    tensor(E *memory, X all = X())
        requires(is_same_v<Descriptor, tensor_inline>)
        : data(memory), sizes(all) {
        index_type step = 1;
        for (size_t i = 0; i < ranks; ++i) {
            strides[i] = step;
            step *= all.extent(i);
        }
    }
    struct bound_by_host {};
    tensor(bound_by_host, E *memory, X all, const index_type *steps) : data(memory), sizes(all) {
        for (size_t i = 0; i < ranks; ++i) strides[i] = steps[i];
    }

    static constexpr size_t get_rank() { return ranks; }
    static constexpr size_t get_static_extent(size_t i) { return X::static_extent(i); }
    index_type get_extent(size_t i) const { return sizes.extent(i); }
    index_type get_stride(size_t i) const { return strides[i]; }
    X extents() const { return sizes; }

    template <class... I>
    E &operator[](I... at) const {
        static_assert(sizeof...(I) == ranks, "rule: as many indices as the tensor has dimensions");
        index_type where[] = {index_type(at)...};
        ptrdiff_t offset = 0;
        for (size_t i = 0; i < ranks; ++i) {
            if (where[i] < 0 || where[i] >= sizes.extent(i))
                metal4conv_stand_in::fail("element %d of dimension %d of a tensor that has %d",
                                          int(where[i]), int(i), int(sizes.extent(i)));
            offset += ptrdiff_t(where[i]) * strides[i];
        }
        return data[offset];
    }

    E *at(const index_type (&origin)[ranks]) const {
        ptrdiff_t offset = 0;
        for (size_t i = 0; i < ranks; ++i) offset += ptrdiff_t(origin[i]) * strides[i];
        return data + offset;
    }

    // A view with the origin moved; what lies beyond the tensor stays beyond it.
    template <class... I>
        requires(sizeof...(I) == ranks)
    auto slice(I... origin) const {
        return cut<dextents<index_type, ranks>>(origin...);
    }
    // The same with sizes that the compiler knows; it has to lie inside.
    template <size_t... S, class... I>
        requires(sizeof...(S) == ranks && sizeof...(I) == ranks)
    auto slice(I... origin) const {
        return cut<metal::extents<index_type, S...>>(origin...);
    }
    template <size_t... S, class... I>
    auto static_slice(I... origin) const {
        return slice<S...>(origin...);
    }
    template <class... I>
    auto offset(I... origin) const {
        return slice(origin...);
    }

    template <class Y, class... I>
    tensor<E, Y, tensor_offset> cut(I... origin) const {
        index_type start[] = {index_type(origin)...};
        index_type rest[ranks];
        array<index_type, ranks> steps;
        for (size_t i = 0; i < ranks; ++i) {
            steps[i] = strides[i];
            rest[i] = sizes.extent(i) - start[i];
            if (rest[i] < 0) rest[i] = 0;
            if (Y::static_extent(i) == dynamic_extent) continue;
            if (start[i] < 0 || index_type(Y::static_extent(i)) > rest[i])
                metal4conv_stand_in::fail(
                    "a slice of %d from element %d of dimension %d, which has %d",
                    int(Y::static_extent(i)), int(start[i]), int(i), int(sizes.extent(i)));
            rest[i] = index_type(Y::static_extent(i));
        }
        return tensor<E, Y, tensor_offset>(at(start), made<Y>(rest), steps);
    }
    template <class Y>
    static Y made(const index_type (&values)[ranks]) {
        if constexpr (ranks == 1) return Y(values[0]);
        else if constexpr (ranks == 2) return Y(values[0], values[1]);
        else if constexpr (ranks == 3) return Y(values[0], values[1], values[2]);
        else return Y(values[0], values[1], values[2], values[3]);
    }
};

template <class E, class X>
tensor(E *, X) -> tensor<E, X, tensor_inline>;
template <class E, class X, class I, size_t R>
tensor(E *, X, array<I, R>) -> tensor<E, X, tensor_inline>;

template <class T>
struct is_tensor : false_type {};
template <class E, class X, class D, class... Tags>
struct is_tensor<tensor<E, X, D, Tags...>> : true_type {};
template <class T>
constexpr bool is_tensor_v = is_tensor<T>::value;

template <size_t Size>
struct execution_threads {
    static_assert(Size == 1, "rule: an operation runs on one thread or on simdgroups");
    static constexpr int simdgroups = 0;
};
template <size_t Size>
struct execution_simdgroups {
    static_assert(Size != 0, "rule: execution_simdgroups<0> is no scope");
    static constexpr int simdgroups = int(Size);
};
using execution_thread = execution_threads<1>;
using execution_simdgroup = execution_simdgroups<1>;

}  // namespace metal

namespace metal4conv_stand_in {

// That all elements of a tensor lie in memory that it may use.
template <class E, class X, class D, class... Tags>
inline void check_memory(const metal::tensor<E, X, D, Tags...> &what, const char *name) {
    ptrdiff_t last = 1;
    for (size_t i = 0; i < X::ranks; ++i) {
        if (what.get_extent(i) <= 0) return;
        last += ptrdiff_t(what.get_extent(i) - 1) * what.strides[i];
    }
    check_range(uint64_t(what.data), uint64_t(what.data + last),
                metal::tensor<E, X, D, Tags...>::space, name);
}

template <class T>
constexpr int scope_simdgroups = -1;
template <size_t N>
constexpr int scope_simdgroups<metal::execution_threads<N>> = 0;
template <size_t N>
constexpr int scope_simdgroups<metal::execution_simdgroups<N>> = int(N);

}  // namespace metal4conv_stand_in
