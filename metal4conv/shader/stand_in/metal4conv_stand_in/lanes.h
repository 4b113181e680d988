// lanes.h: the threads of a threadgroup, run one after the other on one processor thread.
//
// Each thread of a threadgroup has a stack of its own. It runs until it comes to something that
// threads do together (a barrier, an operation of a simdgroup), then the next one runs. When all
// that belong together have come to the same place they go on. When none can go on, they wait for
// one another forever: that is reported, with the places where they stand.
//
// From one barrier to the next the order alternates (first to last, last to first). What a thread
// reads without a barrier after another one wrote it is therefore wrong in one of the two orders.
#pragma once
#include <metal4conv_stand_in/language.h>

extern "C" void *malloc(size_t) noexcept;
extern "C" void *realloc(void *, size_t) noexcept;
extern "C" void free(void *) noexcept;
extern "C" int vsnprintf(char *, size_t, const char *, __builtin_va_list) noexcept;

namespace metal4conv_stand_in {

constexpr int simdgroup_threads = 32;
constexpr int most_threads = 1024;  // of a threadgroup; Metal feature set tables
constexpr size_t stack_bytes = 256 * 1024;
constexpr size_t message_bytes = 1024;
constexpr uint64_t stack_mark = 0x6d34636f6e766dull;

enum class waiting { nothing, threadgroup_barrier, simdgroup_barrier, operation, finished };

struct lane {
    void *stack_pointer;
    unsigned char *stack;
    waiting state;
    int simdgroups;  // that wait together; 0 for all of the threadgroup
    int line;
    const char *what;
};

// What an operation writes to memory that other threads see; see `pending` in `scope`.
struct written {
    void (*store)(const void *copy, const void *values);
    alignas(16) unsigned char copy[256];
    const void *values;
    int space;
};

// What the threads that do an operation together share: its result, in two buffers in turn, as the
// fastest thread may come to the next operation while the slowest still reads.
struct scope {
    unsigned char *buffers[2];
    size_t sizes[2];
    int turn;
    int come;       // threads that came to the operation
    bool is_pending;
    written pending;
};

// A range of memory that the host bound.
struct range {
    const volatile void *data;
    uint64_t bytes;
    const char *name;
};

struct run {
    void *scheduler;
    lane *lanes;
    int threads;
    int current;
    int simdgroups;
    bool has_failed;
    bool is_compute;
    char *message;
    scope *scopes;  // one a simdgroup, and one for the whole threadgroup
    const range *ranges;
    int range_count;
    range tile;  // threadgroup memory
    void (*body)(run &, int thread_index);
    const void *dispatch;
    uint3 group;
};

inline thread_local run *running = nullptr;

// The stack of another thread: what a call has to keep is on the stack, the rest is in it.
#if defined(__x86_64__)
__attribute__((naked, noinline)) inline void change_stack(void **, void *) {
    __asm__ volatile(
        "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
        "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
        "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
inline void *first_stack_pointer(unsigned char *stack, void (*entry)()) {
    // where a call leaves the stack pointer: 8 bytes off a multiple of 16, at the return address
    void **top = (void **)(stack + stack_bytes - 56);
    top[0] = nullptr;
    top[-1] = (void *)entry;
    for (int i = 2; i < 8; ++i) top[-i] = nullptr;
    return top - 7;
}
#elif defined(__aarch64__)
__attribute__((naked, noinline)) inline void change_stack(void **, void *) {
    __asm__ volatile(
        "sub sp, sp, #160\n"
        "stp x19, x20, [sp]\n stp x21, x22, [sp, #16]\n stp x23, x24, [sp, #32]\n"
        "stp x25, x26, [sp, #48]\n stp x27, x28, [sp, #64]\n stp x29, x30, [sp, #80]\n"
        "stp d8, d9, [sp, #96]\n stp d10, d11, [sp, #112]\n stp d12, d13, [sp, #128]\n"
        "stp d14, d15, [sp, #144]\n"
        "mov x9, sp\n str x9, [x0]\n mov sp, x1\n"
        "ldp x19, x20, [sp]\n ldp x21, x22, [sp, #16]\n ldp x23, x24, [sp, #32]\n"
        "ldp x25, x26, [sp, #48]\n ldp x27, x28, [sp, #64]\n ldp x29, x30, [sp, #80]\n"
        "ldp d8, d9, [sp, #96]\n ldp d10, d11, [sp, #112]\n ldp d12, d13, [sp, #128]\n"
        "ldp d14, d15, [sp, #144]\n"
        "add sp, sp, #160\n ret\n");
}
inline void *first_stack_pointer(unsigned char *stack, void (*entry)()) {
    void **bottom = (void **)(stack + stack_bytes - 64 - 160);
    for (int i = 0; i < 20; ++i) bottom[i] = nullptr;
    bottom[11] = (void *)entry;  // x30, where `ret` goes
    return bottom;
}
#else
#error "the stand-in knows x86-64 and arm64 processors"
#endif

// Ends the run with a message: control does not come back.
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wfunction-effects"
[[noreturn]] __attribute__((noinline, cold)) inline void fail(const char *format, ...)
    METAL4CONV_FRAGMENT {
    run &now = *running;
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    if (!now.has_failed) vsnprintf(now.message, message_bytes, format, arguments);
    __builtin_va_end(arguments);
    now.has_failed = true;
    for (;;) change_stack(&now.lanes[now.current].stack_pointer, now.scheduler);
}

// Whether the bytes from `first` to before `last` lie in one bound range: those of `device` memory
// or, for `space` 3, of threadgroup memory.
__attribute__((noinline)) inline void check_range(uint64_t first, uint64_t last, int space,
                                                  const char *what) METAL4CONV_FRAGMENT {
    const run &now = *running;
    if (space == 3) {
        uint64_t start = uint64_t(now.tile.data);
        if (first < start || last > start + now.tile.bytes)
            fail("%s reaches bytes %lld to %lld of threadgroup memory, which has %llu", what,
                 (long long)(first - start), (long long)(last - start),
                 (unsigned long long)now.tile.bytes);
        return;
    }
    if (space != 1 || now.range_count == 0) return;
    const range *nearest = nullptr;
    for (int i = 0; i < now.range_count; ++i) {
        uint64_t start = uint64_t(now.ranges[i].data);
        if (first >= start && last <= start + now.ranges[i].bytes) return;
        if (first >= start && (!nearest || start > uint64_t(nearest->data)))
            nearest = &now.ranges[i];
    }
    if (!nearest) fail("%s reads or writes memory that no buffer holds", what);
    uint64_t start = uint64_t(nearest->data);
    fail("%s reaches bytes %llu to %llu of buffer \"%s\", which has %llu", what,
         (unsigned long long)(first - start), (unsigned long long)(last - start), nearest->name,
         (unsigned long long)nearest->bytes);
}
#pragma clang diagnostic pop

inline void store_pending(scope &here, int spaces) {
    if (!here.is_pending || !(spaces & (1 << here.pending.space))) return;
    here.is_pending = false;
    here.pending.store(here.pending.copy, here.pending.values);
}

// Lets the others run until all that have to came to the same place.
__attribute__((noinline)) inline void wait(waiting state, int simdgroups, int line,
                                           const char *what) METAL4CONV_BLOCKING {
    run &now = *running;
    if (!now.is_compute) fail("%s (line %d) in a function without threadgroups", what, line);
    lane &self = now.lanes[now.current];
    self.state = state;
    self.simdgroups = simdgroups;
    self.line = line;
    self.what = what;
    change_stack(&self.stack_pointer, now.scheduler);
}

inline int memory_spaces(metal::mem_flags flags) {
    return (int(flags) & int(metal::mem_flags::mem_device) ? 2 : 0) |
           (int(flags) & int(metal::mem_flags::mem_threadgroup) ? 8 : 0);
}

struct nothing_to_bring {
    void operator()(unsigned char *) const {}
};

// One operation of all threads of `simdgroups` simdgroups. The first that comes computes it into a
// buffer of `bytes` bytes, from what is in memory then: the writes of others count only where a
// barrier made them visible. Where each thread brings a part of what is computed with, the last
// one computes. Gives the buffer, when all have come. `simdgroups` is 1, or as many as the
// threadgroup has (Metal Shading Language Specification, table 7.1).
template <class Compute, class Bring = nothing_to_bring>
inline unsigned char *together(int simdgroups, size_t bytes, const char *what, int line,
                               Compute compute, Bring bring = {}) METAL4CONV_BLOCKING {
    run &now = *running;
    if (!now.is_compute) fail("%s (line %d) in a function without threadgroups", what, line);
    if (now.threads % simdgroup_threads)
        fail("rule: %s (line %d) of simdgroups in a threadgroup of %d threads, which is not a "
             "multiple of %d",
             what, line, now.threads, simdgroup_threads);
    if (simdgroups != 1 && simdgroups != now.simdgroups)
        fail("rule: %s (line %d) is made for %d simdgroups, the threadgroup has %d: it has to be 1 "
             "or all of them (MPPTensorOpsMatMul2d.h)",
             what, line, simdgroups, now.simdgroups);
    constexpr bool is_brought = !metal::is_same_v<Bring, nothing_to_bring>;
    bool is_whole = simdgroups != 1;
    int threads = is_whole ? now.threads : simdgroup_threads;
    scope &here = now.scopes[is_whole ? now.simdgroups : now.current / simdgroup_threads];
    if (here.come == 0) {
        store_pending(here, 15);
        here.turn ^= 1;
        if (here.sizes[here.turn] < bytes) {
            here.buffers[here.turn] = (unsigned char *)realloc(here.buffers[here.turn], bytes);
            here.sizes[here.turn] = bytes;
        }
    }
    unsigned char *buffer = here.buffers[here.turn];
    bring(buffer);
    here.come += 1;
    if (here.come == (is_brought ? threads : 1)) compute(buffer, here);
    wait(waiting::operation, is_whole ? 0 : 1, line, what);
    return buffer;
}

inline void enter_lane() {
    run &now = *running;
    now.body(now, now.current);
    now.lanes[now.current].state = waiting::finished;
    now.lanes[now.current].line = 0;
    for (;;) change_stack(&now.lanes[now.current].stack_pointer, now.scheduler);
}

inline bool stand_together(const run &now, int first, int count, bool of_threadgroup) {
    const lane &leader = now.lanes[first];
    if (leader.state == waiting::nothing || leader.state == waiting::finished) return false;
    if (of_threadgroup != (leader.simdgroups == 0)) return false;
    for (int i = first; i < first + count; ++i) {
        const lane &other = now.lanes[i];
        if (other.state != leader.state || other.line != leader.line || other.what != leader.what)
            return false;
    }
    return true;
}

inline void go_on(run &now, int first, int count, int scope_index) {
    if (now.lanes[first].state == waiting::operation) now.scopes[scope_index].come = 0;
    for (int i = first; i < first + count; ++i) now.lanes[i].state = waiting::nothing;
}

// Lets those go on that came to the same place; false when there are none.
inline bool release(run &now) {
    if (stand_together(now, 0, now.threads, true)) {
        go_on(now, 0, now.threads, now.simdgroups);
        return true;
    }
    bool goes_on = false;
    for (int group = 0; group < now.simdgroups; ++group) {
        int first = group * simdgroup_threads;
        int left = now.threads - first;
        int count = left < simdgroup_threads ? left : simdgroup_threads;
        if (!stand_together(now, first, count, false)) continue;
        go_on(now, first, count, group);
        goes_on = true;
    }
    return goes_on;
}

// Appends to the message of a run that failed.
inline void say(run &now, const char *format, ...) {
    now.has_failed = true;
    int length = 0;
    while (now.message[length]) ++length;
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    vsnprintf(now.message + length, message_bytes - size_t(length), format, arguments);
    __builtin_va_end(arguments);
}

inline void say_where_they_wait(run &now) {
    say(now, "threads wait for one another forever: ");
    bool told[most_threads] = {};
    for (int i = 0; i < now.threads; ++i) {
        if (told[i]) continue;
        const lane &self = now.lanes[i];
        int alike = 0;
        for (int j = i; j < now.threads; ++j) {
            const lane &other = now.lanes[j];
            if (other.state != self.state || other.line != self.line) continue;
            told[j] = true;
            alike += 1;
        }
        if (i) say(now, ", ");
        if (self.state == waiting::finished)
            say(now, "%d have returned", alike);
        else
            say(now, "%d are at %s (line %d)", alike, self.what, self.line);
    }
    say(now, "; all threads of a simdgroup or threadgroup have to come to what they do together");
}

// Runs one threadgroup; false when it failed.
inline bool run_lanes(run &now) {
    run *outer = running;
    running = &now;
    for (int i = 0; i < now.threads; ++i) {
        now.lanes[i].state = waiting::nothing;
        now.lanes[i].stack_pointer = first_stack_pointer(now.lanes[i].stack, enter_lane);
        *(uint64_t *)now.lanes[i].stack = stack_mark;
    }
    for (int i = 0; i <= now.simdgroups; ++i) {
        now.scopes[i].come = 0;
        now.scopes[i].is_pending = false;
    }
    for (int round = 0; !now.has_failed; ++round) {
        for (int i = 0; i < now.threads && !now.has_failed; ++i) {
            now.current = round % 2 ? now.threads - 1 - i : i;
            lane &self = now.lanes[now.current];
            if (self.state != waiting::nothing) continue;
            change_stack(&now.scheduler, self.stack_pointer);
            if (*(uint64_t *)self.stack != stack_mark && !now.has_failed)
                say(now, "a thread has more variables than its stack of %d KB holds",
                    int(stack_bytes / 1024));
        }
        if (now.has_failed) break;
        int finished = 0;
        for (int i = 0; i < now.threads; ++i)
            finished += now.lanes[i].state == waiting::finished;
        if (finished == now.threads) break;
        if (!release(now)) say_where_they_wait(now);
    }
    for (int i = 0; i <= now.simdgroups && !now.has_failed; ++i) store_pending(now.scopes[i], 15);
    running = outer;
    return !now.has_failed;
}

}  // namespace metal4conv_stand_in

namespace metal {

inline void threadgroup_barrier(mem_flags flags, int line = __builtin_LINE()) METAL4CONV_BLOCKING {
    using namespace metal4conv_stand_in;
    wait(waiting::threadgroup_barrier, 0, line, "threadgroup_barrier");
    run &now = *running;
    for (int i = 0; i <= now.simdgroups; ++i) store_pending(now.scopes[i], memory_spaces(flags));
}

inline void simdgroup_barrier(mem_flags flags, int line = __builtin_LINE()) METAL4CONV_BLOCKING {
    using namespace metal4conv_stand_in;
    wait(waiting::simdgroup_barrier, 1, line, "simdgroup_barrier");
    run &now = *running;
    store_pending(now.scopes[now.current / simdgroup_threads], memory_spaces(flags));
}

}  // namespace metal
