// Threads that read what others wrote, with and without barriers.

#include <metal_stdlib>
using namespace metal;

kernel void exchange(const device float *x [[buffer(0)]], device float *y [[buffer(1)]],
                     threadgroup float *tile [[threadgroup(0)]],
                     uint point [[thread_position_in_grid]],
                     uint index [[thread_index_in_threadgroup]])
{
    y[point * 4] = tile[index];
    tile[index] = x[point];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    y[point * 4 + 1] = tile[(index + 1) % 64];
    y[point * 4 + 2] = tile[(index + 63) % 64];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    tile[index] = -1.0f;
    y[point * 4 + 3] = tile[index];
}

// Threads of one simdgroup wait, those of the other do not.
kernel void apart(const device float *x [[buffer(0)]], device float *y [[buffer(1)]],
                  threadgroup float *tile [[threadgroup(0)]],
                  uint point [[thread_position_in_grid]],
                  uint index [[thread_index_in_threadgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]])
{
    if (simdgroup == 0) {
        tile[index] = x[point];
        simdgroup_barrier(mem_flags::mem_threadgroup);
        y[point * 4] = tile[31 - index];
    }
}

kernel void bounds(const device float *x [[buffer(0)]], device float *y [[buffer(1)]],
                   uint point [[thread_position_in_grid]])
{
    y[point * 4] = x[int(point) - 1];
    y[point * 4 + 1] = x[point + 1];
}
