// cooperative_tensor.h: <metal_cooperative_tensor>.
//
// Which thread has which element is the implementation's business (MPPTensorOpsMatMul2d.h). Here
// they are scattered so that no thread has a row or a column, and some places hold no element at
// all: a shader has to ask `is_valid_element` and `get_multidimensional_index`.
#pragma once
#include <metal4conv_stand_in/lanes.h>
#include <metal4conv_stand_in/language.h>
#include <metal4conv_stand_in/tensor.h>

namespace metal4conv_stand_in {

// How `Elements` elements spread over the threads of a scope. There is a place more a thread than
// it takes; the step is a prime that shares no factor with the number of places.
template <int Threads, int Elements>
struct scattered {
    static constexpr int threads = Threads;
    static constexpr int capacity = (Elements + Threads - 1) / Threads + 1;
    static constexpr int places = capacity * Threads;
    static constexpr int step = places % 7919 ? 7919 : 7907;

    // The element at a place of a thread, -1 for none.
    static int element(int lane_index, int place) {
        long at = (long(place) * Threads + lane_index) * step % places;
        return at < Elements ? int(at) : -1;
    }
};

// The number of this thread among those of a scope.
template <int Threads>
inline int lane_in_scope() {
    if constexpr (Threads == 1) return 0;
    else return running->current % Threads;
}

}  // namespace metal4conv_stand_in

namespace metal {

template <class T, class X, class Layout>
struct cooperative_tensor {
    using element_type = T;
    using value_type = T;
    using extents_type = X;
    using layout = Layout;
    static constexpr size_t ranks = X::ranks;

    T elements[Layout::capacity];
    int lane_index;

    cooperative_tensor() : lane_index(metal4conv_stand_in::lane_in_scope<Layout::threads>()) {
        for (T &element : elements) {
            if constexpr (is_same_v<T, int>) element = -2147483647 - 1;
            else element = T(__builtin_nanf(""));
        }
    }

    static constexpr uint16_t get_capacity() { return Layout::capacity; }
    T &operator[](uint16_t i) { return elements[checked(i)]; }
    const T &operator[](uint16_t i) const { return elements[checked(i)]; }
    bool is_valid_element(uint16_t i) const { return Layout::element(lane_index, i) >= 0; }
    bool get_mask(uint16_t i) const { return is_valid_element(i); }

    // Where the element lies: dimension 0 (the column) first. A place without an element says
    // something, too: the place of one that another thread may have.
    array<int, ranks> get_multidimensional_index(uint16_t i) const {
        int at = Layout::element(lane_index, checked(i));
        array<int, ranks> result{};
        if (at < 0) at = lane_index;
        for (size_t d = 0; d < ranks; ++d) {
            result[d] = at % int(X::static_extent(d));
            at /= int(X::static_extent(d));
        }
        return result;
    }

    static uint16_t checked(uint16_t i) {
        if (i >= Layout::capacity)
            metal4conv_stand_in::fail("element %d of a cooperative tensor with a capacity of %d",
                                      int(i), Layout::capacity);
        return i;
    }

    template <class Self>
    struct over {
        Self *of;
        uint16_t at;
        auto &operator*() const { return (*of)[at]; }
        over &operator++() {
            ++at;
            return *this;
        }
        over operator++(int) {
            over before = *this;
            ++at;
            return before;
        }
        bool operator==(const over &other) const { return at == other.at; }
        bool is_valid_element() const { return of->is_valid_element(at); }
        auto get_multidimensional_index() const { return of->get_multidimensional_index(at); }
    };
    using iterator = over<cooperative_tensor>;
    using const_iterator = over<const cooperative_tensor>;
    iterator begin() { return {this, 0}; }
    iterator end() { return {this, get_capacity()}; }
    const_iterator begin() const { return {this, 0}; }
    const_iterator end() const { return {this, get_capacity()}; }

    // Every thread writes its elements, but those that lie outside of the tensor. Others see them
    // after a barrier.
    template <class E, class Y, class D, class... Tags>
    void store(tensor<E, Y, D, Tags...> to) const {
        check("cooperative_tensor.store", to);
        for (uint16_t i = 0; i < get_capacity(); ++i) {
            auto at = get_multidimensional_index(i);
            if (is_valid_element(i) && is_inside(at, to))
                place(at, to) = typename memory_of<E>::type(elements[i]);
        }
    }
    // Every thread reads its elements; those outside of the tensor stay as they are.
    template <class E, class Y, class D, class... Tags>
    void load(tensor<E, Y, D, Tags...> from) {
        check("cooperative_tensor.load", from);
        for (uint16_t i = 0; i < get_capacity(); ++i) {
            auto at = get_multidimensional_index(i);
            if (is_valid_element(i) && is_inside(at, from)) elements[i] = T(place(at, from));
        }
    }

  private:
    template <class E>
    using memory_of = metal4conv_stand_in::memory<E>;
    template <class U>
    void check(const char *what, U &of) const {
        static_assert(U::ranks == ranks,
                      "rule: a cooperative tensor is loaded from and stored to a tensor with as "
                      "many dimensions");
        static_assert(is_same_v<typename U::index_type, int>,
                      "rule: tensors of operations have int as index (MPPTensorOpsMatMul2d.h)");
        metal4conv_stand_in::check_memory(of, what);
    }
    template <class U>
    static bool is_inside(const array<int, ranks> &at, const U &of) {
        for (size_t d = 0; d < ranks; ++d)
            if (at[d] >= of.get_extent(d)) return false;
        return true;
    }
    template <class U>
    static auto &place(const array<int, ranks> &at, const U &of) {
        ptrdiff_t offset = 0;
        for (size_t d = 0; d < ranks; ++d) offset += ptrdiff_t(at[d]) * of.strides[d];
        return of.data[offset];
    }
};

template <class T>
struct is_cooperative_tensor : false_type {};
template <class T, class X, class L>
struct is_cooperative_tensor<cooperative_tensor<T, X, L>> : true_type {};
template <class T>
constexpr bool is_cooperative_tensor_v = is_cooperative_tensor<T>::value;

}  // namespace metal
