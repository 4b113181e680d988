"""The helpers that a shader's layers share, as Metal; `NAME_` stands for the network's prefix."""

from __future__ import annotations

from metal4conv.shader.source_plan import Plan

BOUND_PARAMETER = "NAME_tensor right"
MADE_PARAMETER = "const device uchar *weight"
"""How a function that multiplies gets the weights: as a bound tensor, or where they lie."""

HAS_MATMUL2D = """\
// Metal Performance Primitives has matmul2d from Metal 4 on; without it the plain path is compiled.
#if defined(__HAVE_TENSOR__) && \\
    __has_include(<MetalPerformancePrimitives/MetalPerformancePrimitives.h>)
#include <metal_tensor>
#include <metal_cooperative_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
#define UPPER_HAS_MATMUL2D 1
#else
#define UPPER_HAS_MATMUL2D 0
#endif
"""

FUNCTION_CONSTANT = """\
// Picks the path when the pipeline is made: matmul2d where it is true, else plain arithmetic.
constant bool NAME_use_matmul2d [[function_constant(0)]];
"""

MULTIPLY_PLAIN = """\
// result[o] = sum over i of weight[o][i] * operand[i], four products at a time, summed as float.
template <int INPUTS, int OUTPUTS>
inline void NAME_multiply_plain(
    const thread OPERAND *operand, const device uchar *weight, thread float *result)
{
    const device WEIGHT4 *row = (const device WEIGHT4 *)weight;
    for (int o = 0; o < OUTPUTS; ++o) {
        float4 sum = float4(0.0f);
        for (int i = 0; i < INPUTS / 4; ++i) {
            const thread OPERAND *x = operand + 4 * i;
            sum += float4(row[i]) * float4(x[0], x[1], x[2], x[3]);
        }
        result[o] = (sum.x + sum.y) + (sum.z + sum.w);
        row += INPUTS / 4;
    }
}
"""

INLINE_WEIGHT = """\
// The tensor of a layer's weights, made in their buffer: extents are innermost first, so that
// [i, o] is weight[o][i]. matmul2d takes no tensor of const elements, though it only reads them.
template <int INPUTS, int OUTPUTS>
inline auto NAME_weight(const device uchar *weight)
{
    return tensor<device WEIGHT, extents<int, INPUTS, OUTPUTS>, tensor_inline>(
        (device WEIGHT *)weight, extents<int, INPUTS, OUTPUTS>());
}
"""

MULTIPLY_POINT = """\
// The same product by matmul2d, in this thread alone: the only scope that fragment functions have.
template <int INPUTS, int OUTPUTS>
inline void NAME_multiply_point(
    thread OPERAND *operand, RIGHT_PARAMETER, thread float *result)
{
    // one row, OUTPUTS columns, INPUTS summed; the weights are transposed; full precision
    constexpr auto descriptor =
        mpp::tensor_ops::matmul2d_descriptor(1, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_thread> multiply;
    auto point = tensor(operand, extents<int, INPUTS, 1>());
RIGHT_STATEMENT    auto sums = tensor(result, extents<int, OUTPUTS, 1>());
    multiply.run(point, right, sums);
}
"""

MULTIPLY_TILE = """\
// Writes the calling lane's operand into its row of the tile.
template <int INPUTS>
inline void NAME_set_row(
    threadgroup uchar *tile, uint lane, const thread OPERAND *operand)
{
    threadgroup OPERAND *row = (threadgroup OPERAND *)tile + lane * INPUTS;
    for (int i = 0; i < INPUTS; ++i) {
        row[i] = operand[i];
    }
}

// The product of all points of a simdgroup by matmul2d. Its sums lie spread over the lanes, each
// of which hands those that it has to `finish(output, point, sum)`; that may write to the tile.
template <int INPUTS, int OUTPUTS, typename Finish>
inline void NAME_multiply_tile(
    threadgroup uchar *tile, RIGHT_PARAMETER, Finish finish)
{
    constexpr auto descriptor = mpp::tensor_ops::matmul2d_descriptor(
        NAME_tile_points, OUTPUTS, INPUTS, false, true, false);
    mpp::tensor_ops::matmul2d<descriptor, execution_simdgroup> multiply;
    using Points = extents<int, INPUTS, NAME_tile_points>;
    tensor<threadgroup OPERAND, Points, tensor_inline> points(
        (threadgroup OPERAND *)tile, Points());
RIGHT_STATEMENT    auto sums = multiply.template get_destination_cooperative_tensor<
        decltype(points), decltype(right), float>();
    simdgroup_barrier(mem_flags::mem_threadgroup); // all rows are written
    multiply.run(points, right, sums);
    simdgroup_barrier(mem_flags::mem_threadgroup); // all rows are read
#pragma unroll // its elements are registers, which only constant indices reach
    for (ushort e = 0; e < sums.get_capacity(); ++e) {
        if (sums.is_valid_element(e)) {
            const auto at = sums.get_multidimensional_index(e);
            finish(int(at[0]), int(at[1]), float(sums[e]));
        }
    }
}

// The same product where each lane needs all sums of its own point.
template <int INPUTS, int OUTPUTS>
inline void NAME_multiply_rows(
    threadgroup uchar *tile, uint lane, RIGHT_PARAMETER, thread float *result)
{
    threadgroup float *rows = (threadgroup float *)tile;
    NAME_multiply_tile<INPUTS, OUTPUTS>(
        tile, RIGHT_ARGUMENT, [=](int o, int point, float sum) {
            rows[point * OUTPUTS + o] = sum;
        });
    simdgroup_barrier(mem_flags::mem_threadgroup); // all sums are written
    for (int o = 0; o < OUTPUTS; ++o) {
        result[o] = rows[int(lane) * OUTPUTS + o];
    }
    simdgroup_barrier(mem_flags::mem_threadgroup); // and read: the tile is free
}
"""

MULTIPLY = """\
// The product on the path that the pipeline was made for.
template <int INPUTS, int OUTPUTS>
inline void NAME_multiply(
    thread OPERAND *operand, const device uchar *weight, thread float *result)
{
#if UPPER_HAS_MATMUL2D
    if (NAME_use_matmul2d) {
        NAME_multiply_point<INPUTS, OUTPUTS>(operand, weight, result);
        return;
    }
#endif
    NAME_multiply_plain<INPUTS, OUTPUTS>(operand, weight, result);
}
"""

MULTIPLY_BOUND = """\
// The product on the path that the pipeline was made for.
template <int INPUTS, int OUTPUTS>
inline void NAME_multiply(
    thread OPERAND *operand, const device uchar *weight, NAME_tensor bound, thread float *result)
{
#if UPPER_HAS_MATMUL2D
    if (NAME_use_matmul2d) {
        NAME_multiply_point<INPUTS, OUTPUTS>(operand, bound, result);
        return;
    }
#endif
    NAME_multiply_plain<INPUTS, OUTPUTS>(operand, weight, result);
}
"""

BOUND_TENSOR = """\
// The weights of a layer as the host binds them: an MTLTensor that is a view of the weights'
// buffer, with the extents (inputs, outputs), innermost first.
#if UPPER_HAS_MATMUL2D
using NAME_tensor = tensor<device WEIGHT, dextents<int, 2>>;
#else
struct NAME_tensor {}; // nothing reads it
#endif
"""

VERTEX = """\
struct NAME_varyings {
    float4 position [[position]];
    float2 uv; // (0, 0) is the top left corner
};

// One triangle that covers the whole target: draw three vertices.
vertex NAME_varyings NAME_vertex(uint vertex_index [[vertex_id]])
{
    const float2 uv = float2(float(vertex_index / 2) * 2.0f, float(vertex_index % 2) * 2.0f);
    NAME_varyings varyings;
    varyings.position = float4(uv.x * 2.0f - 1.0f, 1.0f - uv.y * 2.0f, 0.0f, 1.0f);
    varyings.uv = uv;
    return varyings;
}
"""


def filled(template: str, plan: Plan) -> str:
    """A template with the network's prefix and the types of its precision."""
    weight = {"float16": "half", "float32": "float", "int8": "int8_t"}[plan.options.precision]
    vector = {"float16": "half4", "float32": "float4", "int8": "char4"}[plan.options.precision]
    bound = plan.options.tensors == "handle"
    right = "    auto right = NAME_weight<INPUTS, OUTPUTS>(weight);\n"
    return (
        template.replace("RIGHT_PARAMETER", BOUND_PARAMETER if bound else MADE_PARAMETER)
        .replace("RIGHT_STATEMENT", "" if bound else right)
        .replace("RIGHT_ARGUMENT", "right" if bound else "weight")
        .replace("WEIGHT4", vector)
        .replace("WEIGHT", weight)
        .replace("OPERAND", plan.operand_type)
        .replace("UPPER_", f"{plan.names.prefix.upper()}_")
        .replace("NAME_", f"{plan.names.prefix}_")
    )


def layer_helpers(plan: Plan, uses_matmul2d: bool, in_tiles: bool) -> list[str]:
    """The functions that multiply, as many as the source calls."""
    if not plan.program.linears or plan.options.inline_weights:
        return []
    if not uses_matmul2d:
        plain = MULTIPLY_PLAIN.replace("NAME_multiply_plain", "NAME_multiply")
        return [filled(plain, plan)]
    bound = plan.options.tensors == "handle"
    cooperative = [MULTIPLY_TILE] if in_tiles else []
    made = (
        [MULTIPLY_POINT, *cooperative] if bound else [INLINE_WEIGHT, MULTIPLY_POINT, *cooperative]
    )
    guarded = ["#if UPPER_HAS_MATMUL2D\n", *made, "#endif // UPPER_HAS_MATMUL2D\n"]
    parts = [MULTIPLY_PLAIN, "\n".join(guarded), MULTIPLY_BOUND if bound else MULTIPLY]
    return [filled(part, plan) for part in parts]
