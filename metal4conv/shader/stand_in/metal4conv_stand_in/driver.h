// driver.h: how the host calls the functions of a shader.
//
// The driver that `shader/host.py` writes includes the shader once for each choice of its function
// constants, in a namespace of its own, and calls `run_compute` or `run_fragment` with a function.
// `Bind` makes each parameter out of what the host bound, by the parameter's type.
#pragma once
#include <metal_stdlib>
#include <metal4conv_stand_in/tensor.h>

namespace metal4conv_stand_in {

enum class bound { buffer, tensor, texture, sampler, threadgroup_memory, stage_in, builtin };

// One argument, in the order of the function's parameters. The host's structure is the same.
struct binding {
    int kind;
    int builtin;  // which one, for `builtin`: see `builtins`
    void *data;
    uint64_t bytes;
    const char *name;
    int dimensions[4];
    int strides[4];
    int rank;
    int width, height, bytes_per_row, pixel_format;  // of a texture
    int filter, address;                             // of a sampler
};

// One colour attachment: where `channels` components of each point go.
struct target {
    float *rows;
    int row_width, first, channels;
};

struct dispatch {
    int entry;      // number of the entry point
    int constants;  // function constants, one a bit
    const binding *bindings;
    int binding_count;
    const target *targets;
    int target_count;
    int width, height;  // of the picture that a fragment function draws
    int threads[2];     // of a threadgroup
    int groups[2];      // threadgroups of the whole grid
    int first, count;   // of threadgroups or rows of the picture, for this call
    char *message;      // `message_bytes` bytes
};

enum class builtins {
    thread_position_in_grid,
    thread_position_in_threadgroup,
    thread_index_in_threadgroup,
    threadgroup_position_in_grid,
    threads_per_threadgroup,
    threadgroups_per_grid,
    threads_per_grid,
    thread_index_in_simdgroup,
    simdgroup_index_in_threadgroup,
    simdgroups_per_threadgroup,
    threads_per_simdgroup,
    position,
    dispatch_threads_per_threadgroup,
};

struct position_of {
    const dispatch *what;
    const run *lanes;
    int index;  // of the thread in its threadgroup
    float x, y;

    uint3 builtin(int which) const {
        const uint width = uint(what->threads[0]), height = uint(what->threads[1]);
        const uint3 group = lanes->group;
        const uint3 local{uint(index) % width, uint(index) / width, 0u};
        switch (builtins(which)) {
            case builtins::thread_position_in_grid:
                return uint3{group.x * width + local.x, group.y * height + local.y, 0u};
            case builtins::thread_position_in_threadgroup: return local;
            case builtins::thread_index_in_threadgroup: return uint3{uint(index), 0u, 0u};
            case builtins::threadgroup_position_in_grid: return group;
            case builtins::threads_per_threadgroup:
            case builtins::dispatch_threads_per_threadgroup: return uint3{width, height, 1u};
            case builtins::threadgroups_per_grid:
                return uint3{uint(what->groups[0]), uint(what->groups[1]), 1u};
            case builtins::threads_per_grid:
                return uint3{width * uint(what->groups[0]), height * uint(what->groups[1]), 1u};
            case builtins::thread_index_in_simdgroup:
                return uint3{uint(index % simdgroup_threads), 0u, 0u};
            case builtins::simdgroup_index_in_threadgroup:
                return uint3{uint(index / simdgroup_threads), 0u, 0u};
            case builtins::simdgroups_per_threadgroup:
                return uint3{uint(lanes->simdgroups), 0u, 0u};
            case builtins::threads_per_simdgroup: return uint3{uint(simdgroup_threads), 0u, 0u};
            case builtins::position: break;
        }
        fail("the stand-in does not know attribute number %d of a parameter", which);
    }
};

inline void check_kind(const binding &what, bound kind, const char *type) {
    if (what.kind != int(kind))
        fail("parameter \"%s\" is %s in the source, and something else in the manifest", what.name,
             type);
}

// A structure that the rasteriser fills in, or a plain builtin.
template <class T>
struct Bind {
    static T from(const binding &what, const position_of &at) {
        if constexpr (requires(T varyings) { varyings.position; }) {
            check_kind(what, bound::stage_in, "[[stage_in]]");
            T varyings{};
            varyings.position = metal::vec<float, 4>{at.x, at.y, 0.0f, 1.0f};
            if constexpr (requires { varyings.uv; })
                varyings.uv = decltype(varyings.uv){at.x / float(at.what->width),
                                                    at.y / float(at.what->height)};
            return varyings;
        } else {
            check_kind(what, bound::builtin, "a builtin");
            using element = typename parts<T>::element;
            if constexpr (parts<T>::count == 4) {
                return T{element(at.x), element(at.y), element(0), element(1)};
            } else {
                uint3 value = at.builtin(what.builtin);
                T result{};
                if constexpr (parts<T>::count == 1) {
                    result = T(value.x);
                } else {
                    for (int i = 0; i < parts<T>::count; ++i) result[i] = element(value[i]);
                }
                return result;
            }
        }
    }
};

template <class E>
struct Bind<E *> {
    static E *from(const binding &what, const position_of &at) {
        if constexpr (memory<E>::space == 3) {
            check_kind(what, bound::threadgroup_memory, "threadgroup memory");
            return (E *)uint64_t(at.lanes->tile.data);
        } else {
            check_kind(what, bound::buffer, "a buffer");
            return (E *)uint64_t(what.data);
        }
    }
};

template <class E>
struct Bind<E &> {
    static E &from(const binding &what, const position_of &) {
        check_kind(what, bound::buffer, "a buffer");
        if (what.bytes < sizeof(typename memory<E>::type))
            fail("buffer \"%s\" has %llu bytes, the structure in the source %llu", what.name,
                 (unsigned long long)what.bytes,
                 (unsigned long long)sizeof(typename memory<E>::type));
        return *(E *)uint64_t(what.data);
    }
};

template <class E, class X>
struct Bind<metal::tensor<E, X, metal::tensor_handle>> {
    using type = metal::tensor<E, X, metal::tensor_handle>;
    static type from(const binding &what, const position_of &) {
        check_kind(what, bound::tensor, "a tensor");
        if (what.rank != int(X::ranks))
            fail("tensor \"%s\" has %d dimensions, in the source %d", what.name, what.rank,
                 int(X::ranks));
        typename X::index_type sizes[X::ranks], strides[X::ranks];
        for (size_t i = 0; i < X::ranks; ++i) {
            sizes[i] = typename X::index_type(what.dimensions[i]);
            strides[i] = typename X::index_type(what.strides[i]);
            if (!(X::static_extent(i) == metal::dynamic_extent ||
                  X::static_extent(i) == size_t(what.dimensions[i])))
                fail("tensor \"%s\" has %d elements in dimension %d, in the source %d", what.name,
                     what.dimensions[i], int(i), int(X::static_extent(i)));
        }
        return type(typename type::bound_by_host{}, (E *)uint64_t(what.data),
                    type::template made<X>(sizes), strides);
    }
};

template <class T, metal::access A>
struct Bind<metal::texture2d<T, A>> {
    static metal::texture2d<T, A> from(const binding &what, const position_of &) {
        check_kind(what, bound::texture, "a texture");
        metal::texture2d<T, A> result;
        result.texels = (const unsigned char *)what.data;
        result.width = what.width;
        result.height = what.height;
        result.bytes_per_row = what.bytes_per_row;
        result.pixel_format = what.pixel_format;
        return result;
    }
};

template <>
struct Bind<metal::sampler> {
    static metal::sampler from(const binding &what, const position_of &) {
        check_kind(what, bound::sampler, "a sampler");
        return metal::sampler(metal::filter(what.filter), metal::address(what.address));
    }
};

template <class T, T... I>
struct numbers {};
template <int N>
using numbers_to = __make_integer_seq<numbers, int, N>;

// One run of lanes with their stacks, for the time of a call.
struct room {
    run state{};
    explicit room(const dispatch &what, int threads, uint64_t tile_bytes) {
        state.message = what.message;
        state.threads = threads;
        state.simdgroups = (threads + simdgroup_threads - 1) / simdgroup_threads;
        state.lanes = (lane *)malloc(sizeof(lane) * size_t(threads));
        stacks = (unsigned char *)malloc(stack_bytes * size_t(threads) + 64);
        unsigned char *aligned = (unsigned char *)((uint64_t(stacks) + 63) & ~uint64_t(63));
        for (int i = 0; i < threads; ++i) {
            state.lanes[i] = {};
            state.lanes[i].stack = aligned + size_t(i) * stack_bytes;
        }
        state.scopes = (scope *)malloc(sizeof(scope) * size_t(state.simdgroups + 1));
        for (int i = 0; i <= state.simdgroups; ++i) state.scopes[i] = {};
        ranges = (range *)malloc(sizeof(range) * size_t(what.binding_count + 1));
        state.ranges = ranges;
        for (int i = 0; i < what.binding_count; ++i) {
            const binding &one = what.bindings[i];
            if (one.kind == int(bound::buffer) || one.kind == int(bound::tensor))
                ranges[state.range_count++] = {one.data, one.bytes, one.name};
        }
        tile = (unsigned char *)malloc(tile_bytes + 64);
        state.tile = {(void *)((uint64_t(tile) + 63) & ~uint64_t(63)), tile_bytes, "threadgroup"};
        state.dispatch = &what;
    }
    room(const room &) = delete;
    ~room() {
        for (int i = 0; i <= state.simdgroups; ++i) {
            free(state.scopes[i].buffers[0]);
            free(state.scopes[i].buffers[1]);
        }
        free(state.lanes);
        free(stacks);
        free(state.scopes);
        free(ranges);
        free(tile);
    }
    unsigned char *stacks, *tile;
    range *ranges;
};

// One function of the shader with the types of its parameters.
template <auto Function>
struct call;
template <class R, class... A, R (*Function)(A...)>
struct call<Function> {
    static bool check(const dispatch &what) {
        if (what.threads[0] * what.threads[1] > most_threads) {
            __builtin_memcpy(what.message, "a threadgroup has 1024 threads at most", 39);
            return false;
        }
        if (what.binding_count == int(sizeof...(A))) return true;
        __builtin_memcpy(what.message, "the manifest has another number of arguments", 45);
        return false;
    }
    template <int... I>
    static R with(numbers<int, I...>, const binding *bindings, const position_of &at) {
        return Function(Bind<A>::from(bindings[I], at)...);
    }
    static R with(const position_of &at) {
        return with(numbers_to<int(sizeof...(A))>{}, at.what->bindings, at);
    }

    static void compute_lane(run &now, int index) {
        with(position_of{(const dispatch *)now.dispatch, &now, index, 0.0f, 0.0f});
    }

    template <class Colour>
    static void fragment_lane(run &now, int) {
        const dispatch &what = *(const dispatch *)now.dispatch;
        for (int y = what.first; y < what.first + what.count; ++y)
            for (int x = 0; x < what.width; ++x) {
                const auto result =
                    with(position_of{&what, &now, 0, float(x) + 0.5f, float(y) + 0.5f});
                for (int i = 0; i < what.target_count; ++i) {
                    const target &to = what.targets[i];
                    const metal::vec<float, 4> colour = Colour::of(result, i);
                    float *row = to.rows + (size_t(y) * size_t(what.width) + size_t(x)) *
                                               size_t(to.row_width);
                    for (int c = 0; c < to.channels; ++c) row[to.first + c] = colour[c];
                }
            }
    }
};

// What a colour attachment of this type holds, as four numbers.
template <class T>
inline metal::vec<float, 4> four(T value) {
    metal::vec<float, 4> result{0.0f, 0.0f, 0.0f, 1.0f};
    if constexpr (parts<T>::count == 1) {
        result[0] = float(value);
    } else {
        for (int i = 0; i < parts<T>::count; ++i) result[i] = float(value[i]);
    }
    return result;
}

inline void fill_with_nan(const range &memory_range) {
    // 0xff in every byte is not-a-number for half, bfloat and float
    __builtin_memset((void *)memory_range.data, 0xff, memory_range.bytes);
}

template <auto Function>
inline int run_compute(const dispatch &what) {
    if (!call<Function>::check(what)) return 1;
    int threads = what.threads[0] * what.threads[1];
    uint64_t tile_bytes = 0;
    for (int i = 0; i < what.binding_count; ++i)
        if (what.bindings[i].kind == int(bound::threadgroup_memory))
            tile_bytes += what.bindings[i].bytes;
    room here(what, threads, tile_bytes);
    if (!here.stacks || !here.tile) {
        __builtin_memcpy(what.message, "there is no memory for the stacks of threads", 45);
        return 1;
    }
    here.state.is_compute = true;
    here.state.body = &call<Function>::compute_lane;
    for (int i = what.first; i < what.first + what.count; ++i) {
        here.state.group = uint3{uint(i % what.groups[0]), uint(i / what.groups[0]), 0u};
        fill_with_nan(here.state.tile);
        if (!run_lanes(here.state)) return 1;
    }
    return 0;
}

template <auto Function, class Colour>
inline int run_fragment(const dispatch &what) {
    if (!call<Function>::check(what)) return 1;
    room here(what, 1, 0);
    here.state.body = &call<Function>::template fragment_lane<Colour>;
    return run_lanes(here.state) ? 0 : 1;
}

}  // namespace metal4conv_stand_in
