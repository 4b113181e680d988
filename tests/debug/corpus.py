"""The corpus: for each network the faults that are seeded in it, one at a time."""

from __future__ import annotations

from tests.debug.cases import (
    Corpus,
    channel,
    edit,
    element,
    mirrored,
    rolled,
    scaled,
    transposed,
    zeros,
)
from tests.debug.faults import (
    LayerFault,
    becomes,
    initializer,
    joins,
    node_attribute,
    node_inputs,
    node_takes,
    node_type,
    sets,
    swapped,
    takes,
    weight,
)

corpus = Corpus()

# A small perceptron: two layers of 32, six channels, colours and a normal of unit length.
corpus.add(
    "material",
    "weight",
    {
        "element": (weight("linear_1", element(5, 7, add=1.5)),),
        "channel-dropped": (weight("linear", channel(3, 0.0)),),
        "bias-dropped": (weight("linear_2", zeros, "bias"),),
        "transposed": (weight("linear_1", transposed),),
        "scaled": (weight("linear", scaled(1.03)),),
    },
)
corpus.add(
    "material",
    "index",
    {
        "slice-off-by-one": (sets("slice_2", begin=[0, 2], end=[64, 5], end_mask=[True, False]),),
    },
)
corpus.add(
    "material",
    "operand",
    {
        "wrong-factor": (takes("output_1", "x", "slice_1"),),
        "no-relu": (takes("linear_1", "x", "linear"),),
    },
)
corpus.add(
    "material",
    "epsilon",
    {
        "epsilon": (sets("add", y=1e-2),),
        "epsilon-lost": (sets("add", y=0.0),),
    },
    precision="float32",
)
corpus.add("material", "operator", {"absolute": (becomes("relu", "abs"),)})

# Seven convolutions, the last of them shuffled to twice the size.
corpus.add(
    "upscaler",
    "weight",
    {
        "mirrored": (weight("conv2d_3", mirrored),),
        "bias-of-a-channel": (weight("conv2d_5", channel(2, 0.0), "bias"),),
        "element": (weight("conv2d", element(4, 1, 2, 2, add=0.3)),),
        "channels-moved": (weight("conv2d_6", rolled(0)),),
    },
)
corpus.add("upscaler", "bound", {"clip": (sets("output", beta=0.875),)})
corpus.add("upscaler", "operand", {"sub": (swapped("sub"),)})
corpus.add(
    "upscaler",
    "code",
    {
        "constant": (edit("color - 0.5", "color - 0.45"), "sub"),
        "no-residual": (
            edit(" + self.base(color)\n", "\n"),
            *("conv2d_6", "pixel_shuffle"),
        ),
        "transposed-shuffle": (
            edit(
                "nn.functional.pixel_shuffle(quads, 2)",
                "nn.functional.pixel_shuffle(quads.unflatten(1, (3, 2, 2)).transpose(2, 3)"
                ".flatten(1, 3), 2)",
            ),
            *("unflatten", "transpose", "flatten", "pixel_shuffle"),
        ),
        "lower-bound": (
            edit("pixel_shuffle(quads, 2), 0.0, 1.0)", "pixel_shuffle(quads, 2), 0.1, 1.0)"),
            "output",
        ),
    },
    fast=1,
)

# A U-Net; depths are compared with the mean of their neighbourhoods first.
corpus.add(
    "occlusion",
    "attribute",
    {
        "padding-counts": (sets("avg_pool2d_2", exclude_padding_from_average=False),),
        "padding-moved": (sets("conv2d_14", pad=[2, 0, 1, 1]),),
    },
)
corpus.add(
    "occlusion",
    "operand",
    {
        "concat-order": (joins("cat", 0, 1, 3, 2, 4),),
        "other-skip": (takes("add_1", "x", "relu_2"),),
        "sub": (swapped("sub_2"),),
    },
)
corpus.add("occlusion", "bound", {"clip": (sets("clip_1", alpha=-0.25),)})
corpus.add("occlusion", "constant", {"radius": (sets("_inversed_div_1", y=2.0),)})
corpus.add("occlusion", "weight", {"inputs-moved": (weight("conv2d_6", rolled(1)),)})
corpus.add(
    "occlusion",
    "code",
    {
        "padding-counts-everywhere": (
            edit("count_include_pad=False", "count_include_pad=True"),
            *("avg_pool2d", "avg_pool2d_1", "avg_pool2d_2"),
        ),
        "interpolation": (
            edit('mode="nearest")', 'mode="bilinear")'),
            *("upsample_bilinear2d", "upsample_bilinear2d_1", "upsample_bilinear2d_2"),
        ),
        "sub-everywhere": (
            edit(
                "(depth - neighbourhood_mean(depth, size))",
                "(neighbourhood_mean(depth, size) - depth)",
            ),
            *("sub", "sub_1", "sub_2"),
        ),
        "no-skip": (
            edit("down_2 + self.up(found)", "self.up(found)"),
            *("upsample_nearest2d_1", "conv2d_12"),
        ),
        "constant-added": (edit("1.0 / depth", "1.0 / (depth + 0.25)"), "add", "reciprocal"),
    },
    fast=0,
)

# A U-Net as an ONNX graph.
corpus.add(
    "denoiser",
    "weight",
    {
        "channel": (weight("level_2_signed", channel(5, 1.5)),),
        "bias-dropped": (weight("level_1_merged_signed", zeros, "bias"),),
    },
)
corpus.add("denoiser", "attribute", {"padding-moved": (sets("level_4_signed", pad=[0, 2, 1, 1]),)})
corpus.add("denoiser", "operand", {"enlarged-twice": (takes("corrected", "y", "noisy"),)})
corpus.add(
    "denoiser",
    "graph",
    {
        "concat-order": (node_inputs("level_2_both", 1, 0), "level_2_both"),
        "sub": (node_type("corrected", "Sub"), "corrected"),
        "clip": (initializer("white", scaled(0.8)), "denoised"),
        "leaky": (node_type("level_4", "LeakyRelu", alpha=0.2), "level_4"),
        "element": (initializer("level_1.weight", element(3, 2, 1, 1, add=0.5)), "level_1_signed"),
        "interpolation": (
            node_attribute(
                "level_2_merged_enlarged",
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
            "level_2_merged_enlarged",
        ),
        "bias-of-another-layer": (
            node_takes("level_4_signed", 2, "level_4_again.bias"),
            "level_4_signed",
        ),
        "skip-of-another-layer": (node_takes("level_1_both", 1, "level_1_signed"), "level_1_both"),
    },
    fast=5,
)

# Poses of two gaits, blended, corrected by a perceptron, brought to unit length; a SavedModel.
corpus.add(
    "blend",
    "operand",
    {
        "concat-order": (joins("concatenate_1_concat", 1, 0, 2, 3),),
        "sub": (swapped("animation_blend_1_Sub_1"),),
    },
)
corpus.add(
    "blend",
    "operator",
    {
        "mean": (becomes("animation_blend_1_Sum", "reduce_mean", "x", "axes", "keep_dims"),),
        "relu": (becomes("dense_1_mul_1", "relu"),),
    },
)
corpus.add(
    "blend",
    "weight",
    {
        "transposed": (weight("dense_2_1_BiasAdd", transposed),),
        "bias-dropped": (weight("dense_1_2_BiasAdd", zeros, "bias"),),
    },
)
corpus.add("blend", "epsilon", {"epsilon": (sets("animation_blend_1_Add_2", y=0.1),)})
corpus.add("blend", "constant", {"factor": (sets("animation_blend_1_Mul", x=3.0),)})

# Formulas of a shader, hand-written activations among them.
corpus.add(
    "shading",
    "code",
    {
        "power-for-product": (
            edit("inner = 3.0 - 2.0 * magnitude", "inner = 3.0 - 2.0**magnitude"),
            *("pow_1", "pow_2"),
        ),
        "power-of-itself": (
            edit("* magnitude * magnitude * inner", "* magnitude**magnitude * inner"),
            *("pow_1", "pow_2"),
        ),
        "minus": (edit("2.0 * position - unit", "2.0 * position + unit"), "add_1"),
        "exponent-sign": (edit("-0.5 * position", "0.5 * position"), "mul_7"),
        "slice-off-by-one": (edit("position[:, 2:3]", "position[:, 1:2]"), "slice_1"),
        "activation": (edit("functional.silu", "functional.gelu"), "gelu"),
        "softmax-axis": (edit("hidden[:, :8], dim=1)", "hidden[:, :8], dim=0)"), "softmax"),
        "branches": (edit("lit, 0.5 * lit)", "0.5 * lit, lit)"), "where"),
        "concat-order": (edit("[position, unit]", "[unit, position]"), "cat"),
        "no-residual": (
            edit("(hidden) - 0.1) + hidden", "(hidden) - 0.1)"),
            *("mul_11", "linear_2", "slice_2", "slice_3"),
        ),
    },
    fast=2,
)
corpus.add(
    "shading",
    "code",
    {
        "threshold": (edit("cosine > 0.25", "cosine > -0.25"), "gt"),
        "another-slice": (edit("hidden[:, 8:16]", "hidden[:, 9:17]"), "slice_3"),
        "epsilon": (edit("keepdim=True) + 1e-3)", "keepdim=True) + 1e-2)"), "add"),
        "sub": (edit("self.second(hidden) - 0.1", "0.1 - self.second(hidden)"), "rsub_1"),
        "sigmoid": (edit("torch.sigmoid(", "torch.tanh("), "tanh"),
        "clamp": (edit("x.abs(), 0.0, 1.0)", "x.abs(), 0.0, 0.5)"), "clip_0", "clip_1"),
        "not-normal": (edit("unit = normal / length", "unit = normal * length"), "mul_1"),
        "factor-at-the-wrong-place": (
            edit("color * fog + shade", "(color + shade) * fog"),
            *("add_2", "output_0"),
        ),
        "no-mean": (
            edit("hidden[:, 8:16]).mean(dim=1)", "hidden[:, 8:16]).sum(dim=1)"),
            "output_1",
        ),
    },
    fast=0,
)
corpus.add(
    "shading",
    "operand",
    {
        "branches-of-where": (swapped("where", "a", "b"),),
        "no-root": (takes("div", "y", "add"),),
        "fog-of-another": (takes("mul_13", "y", "clip_0"),),
    },
)

# Convolutions and everything around them: norms, pools, groups, interpolation, padding.
corpus.add(
    "pyramid",
    "code",
    {
        "align-corners": (
            edit("align_corners=False", "align_corners=True"),
            "upsample_bilinear2d",
        ),
        "slope": (edit("(image)), 0.1)", "(image)), 0.01)"), "leaky_relu"),
        "padding-counts": (
            edit("count_include_pad=True", "count_include_pad=False"),
            "avg_pool2d",
        ),
        "mean-for-maximum": (edit("torch.amax(", "torch.mean("), "output_1"),
        "softmax-axis": (edit("self.last(found), dim=1)", "self.last(found), dim=2)"), "output_0"),
        "padding-mode": (edit('"reflect"', '"replicate"'), "pad"),
        "dilation": (edit("padding=2, dilation=2", "padding=1, dilation=1"), "conv2d_2"),
        "pool": (edit("functional.max_pool2d(", "functional.avg_pool2d("), "avg_pool2d_1"),
        "sub": (edit("half - larger", "larger - half"), "sub"),
        "groups-moved": (
            edit("self.wide(smooth)", "self.wide(smooth.roll(4, 1))"),
            *("gather_0", "roll", "conv2d_2"),
        ),
    },
    fast=1,
)
GROUP_NORM = (
    *("reshape_0", "reduce_mean_0", "sub_0", "square_0", "reduce_mean_2", "add_0"),
    *("sqrt_0", "real_div_0", "reshape_1", "add_1"),
)
"""What coremltools makes of a group norm."""
corpus.add(
    "pyramid",
    "code",
    {
        "epsilon": (edit("affine=True, eps=1e-3", "affine=True, eps=1e-2"), "instance_norm"),
        "groups": (edit("nn.GroupNorm(4, 12)", "nn.GroupNorm(3, 12)"), *GROUP_NORM),
        "interpolation": (
            edit('mode="bilinear", align_corners=False', 'mode="nearest"'),
            "upsample_nearest2d",
        ),
        "elu": (
            edit("functional.elu(self.joined(mixed))", "functional.elu(self.joined(mixed), 0.5)"),
            "elu",
        ),
        "no-residual": (
            edit("half + self.groups(self.wide(smooth))", "self.groups(self.wide(smooth))"),
            *("add_1", "max_pool2d", "sub"),
        ),
        "concat-order": (
            edit("[full, self.up(half - larger)]", "[self.up(half - larger), full]"),
            "cat",
        ),
        "selu": (edit("functional.elu(", "functional.selu("), "selu"),
    },
    precision="float32",
    fast=0,
)
corpus.add(
    "pyramid",
    "weight",
    {
        "transposed-kernel": (
            weight("conv_transpose2d_has_output_shape", lambda w: w[..., ::-1, :]),
        ),
        "norm-scale": (weight("instance_norm", channel(2, 0.5), "gamma"),),
        "group-weights-moved": (weight("conv2d_2", rolled(0, 4)),),
    },
)

# Embeddings, attention written out, layer norms; two layers, so most faults are there twice.
corpus.add(
    "language",
    "code",
    {
        "attention-scale": (edit(")) * 0.5\n", ")) * 0.25\n"), *("mul", "mul_1")),
        "mask-sign": (edit("-100.0", "100.0"), *("add_1", "add_4")),
        "mask-diagonal": (edit("diagonal=1)", "diagonal=2)"), *("add_1", "add_4")),
        "softmax-axis": (
            edit("scores + mask, dim=-1)", "scores + mask, dim=-2)"),
            *("softmax", "softmax_1"),
        ),
        "position-off-by-one": (
            edit("[:, 1 : length + 1]", "[:, :length]"),
            "add",
        ),
        "first-for-last": (edit("torch.tanh(x[:, -1])", "torch.tanh(x[:, 0])"), "select"),
        "heads-not-moved-back": (
            edit("found.permute(0, 2, 1, 3).reshape(1", "found.reshape(1"),
            *("f__unsafe_view", "f__unsafe_view_1", "view_3", "view_7", "matmul_1", "matmul_3"),
        ),
        "sub": (edit("last - x.mean(dim=1)", "x.mean(dim=1) - last"), "output_1"),
    },
    fast=1,
)
corpus.add(
    "language",
    "code",
    {
        "epsilon": (edit("eps=1e-5", "eps=1e-2"), "layer_norm_4"),
        "no-residual": (
            edit("return x + self.narrow(", "return self.narrow("),
            *("linear_5", "linear_11", "layer_norm_2", "add_3", "layer_norm_4", "add_5"),
        ),
        "norm-after-for-before": (
            edit("self.attention(self.before(x), mask)", "self.attention(self.after(x), mask)"),
            *("layer_norm", "layer_norm_2"),
        ),
        "query-for-key": (
            edit(
                "self.split(self.key(x)).transpose(2, 3)",
                "self.split(self.query(x)).transpose(2, 3)",
            ),
            # the same layer twice is there once, so the product takes one value twice
            *("matmul", "matmul_2"),
        ),
    },
    precision="float32",
    fast=0,
)
corpus.add(
    "language",
    "weight",
    {
        "scale-of-another-norm": (weight("layer_norm_1", lambda gamma: gamma[::-1], "gamma"),),
        "transposed": (weight("linear_3", transposed),),
        "words-moved": (weight("embedding", rolled(0), "x"),),
        "norm-bias-dropped": (weight("layer_norm_2", zeros, "beta"),),
        "element": (weight("linear_8", element(3, 3, add=1.0)),),
    },
)
corpus.add(
    "language",
    "attribute",
    {"gelu-by-tanh": (sets("gelu", mode="TANH_APPROXIMATION"),)},
    precision="float32",
    fast=0,
)
corpus.add("language", "attribute", {"heads": (sets("permute_2", perm=[0, 3, 1, 2]),)})
corpus.add("language", "operand", {"other-residual": (takes("add_6", "x", "add_3"),)})

# Moves, picks and sums.
corpus.add(
    "tables",
    "code",
    {
        "order": (edit("[3, 0, 5, 1, 4, 2, 7, 6]", "[3, 0, 5, 1, 4, 2, 6, 7]"), "index_select"),
        "not-turned": (
            edit("picked.transpose(1, 2) + x", "picked + x"),
            *("index_select", "add"),
        ),
        "slice-off-by-one": (edit("second[:, 1:4]", "second[:, 2:5]"), "slice_1"),
        "roll": (edit("torch.roll(middle, 1,", "torch.roll(middle, -1,"), "gather_0"),
        "concat-order": (edit("[first, rolled]", "[rolled, first]"), "cat"),
        "cumsum-axis": (
            edit("torch.cumsum(joined, dim=1)", "torch.cumsum(joined, dim=2)"),
            "cumsum",
        ),
        "flip-axis": (edit("torch.flip(totals, dims=[2])", "torch.flip(totals, dims=[1])"), "flip"),
        "minimum": (edit("torch.maximum(", "torch.minimum("), "minimum"),
    },
    fast=2,
)
corpus.add(
    "tables",
    "code",
    {
        "norm-order": (
            edit("vector_norm(turned_back, dim=2", "vector_norm(turned_back, 1, dim=2"),
            *("abs_0", "reduce_sum_0"),
        ),
        "epsilon": (edit("(norm + 0.01)", "(norm + 0.1)"), "add_1"),
        "operand": (edit("joined * 0.25", "totals * 0.25"), "mul"),
        "clamp": (edit("clamp(-0.75, 0.75)", "clamp(-0.5, 0.75)"), "best"),
        "view-order": (
            edit("turned.reshape(2, 2, 4, 8)", "turned.reshape(2, 4, 2, 8)"),
            *("view", "permute", "f__unsafe_view"),
        ),
        "logarithm": (edit("torch.log(spread + 1.0)", "torch.log(spread + 2.0)"), "add_2"),
    },
    precision="float32",
    fast=0,
)
corpus.add(
    "tables",
    "attribute",
    {
        "matmul-transposed": (sets("einsum", transpose_y=True),),
        "cumsum-backwards": (sets("cumsum", reverse=True),),
        "cumsum-exclusive": (sets("cumsum", exclusive=True),),
    },
)
corpus.add("tables", "index", {"gather": (weight("gather_0", element(3, add=1), "indices"),)})

# The same code as TorchScript.
corpus.add(
    "shading_script",
    "code",
    {
        "power-for-product": (
            edit("inner = 3.0 - 2.0 * magnitude", "inner = 3.0 - 2.0**magnitude"),
            "type:pow",
        ),
        "softmax-axis": (edit("hidden[:, :8], dim=1)", "hidden[:, :8], dim=0)"), "type:softmax"),
    },
    fast=1,
)
corpus.add(
    "tables_script",
    "code",
    {
        "cumsum-axis": (
            edit("torch.cumsum(joined, dim=1)", "torch.cumsum(joined, dim=2)"),
            "type:cumsum",
        ),
        "minimum": (edit("torch.maximum(", "torch.minimum("), "type:minimum"),
    },
    fast=1,
)

# ONNX exports.
corpus.add(
    "convolutions",
    "weight",
    {
        "element": (weight("first_Conv_output_0", element(2, 1, 0, 0, add=0.5)),),
        "mirrored": (weight("found", mirrored),),
        "bias-dropped": (weight("f_40", zeros, "bias"),),
    },
)
corpus.add("convolutions", "operand", {"concat-order": (joins("Concat_1_output_0", 1, 0),)})
corpus.add(
    "convolutions",
    "operator",
    {"maximum": (becomes("GlobalAveragePool_output_0", "reduce_max", "x", "axes", "keep_dims"),)},
)
corpus.add(
    "decoder",
    "graph",
    {
        "softmax-axis": (
            node_attribute("/Softmax_output_0", axis=2),
            "Softmax_output_0",
        ),
        "query-and-key": (
            node_takes("/Transpose_1_output_0", 0, "/Squeeze_output_0"),
            "MatMul_1_output_0",
        ),
        "no-norm": (
            node_takes("/packed/MatMul_output_0", 0, "/Add_output_0"),
            "packed_Add_output_0",
        ),
        "no-residual": (
            node_takes("66", 0, "/words/Gather_output_0"),
            "f_66",
        ),
    },
    fast=3,
)
corpus.add(
    "perceptron",
    "attribute",
    {
        "gelu-by-tanh": (sets("Mul_1_output_0", mode="TANH_APPROXIMATION"),),
        "epsilon": (sets("norm_LayerNormalization_output_0", epsilon=1e-2),),
    },
    precision="float32",
)
corpus.add(
    "recurrent",
    "weight",
    {
        "gates-moved": (weight("lstm_LSTM_1_output_0_lstm_0", rolled(0, 16), "weight_hh"),),
        "hidden-weight": (weight("gru_GRU_output_0_gru_0", scaled(0.5), "weight_hh"),),
    },
)

# Keras.
corpus.add(
    "scenery",
    "layer",
    {
        "activation": (LayerFault("mix", (("activation", "elu"),)), "mix_1_Elu"),
        "interpolation": (
            LayerFault("up", (("interpolation", "nearest"),)),
            "*_up_1_Repeat*",
        ),
        "slope": (LayerFault("leaky", (("negative_slope", 0.01),)), "leaky_1_LeakyRelu"),
        "kernel": (LayerFault("first", weight=0, change=mirrored), "first_1_BiasAdd"),
    },
    fast=1,
)
corpus.add(
    "scenery",
    "weight",
    {
        "transposed": (weight("around_1_BiasAdd", transposed),),
        "batch-norm": (weight("norm_1_batchnorm_add_1", channel(1, 3.0), "variance"),),
        "depthwise": (weight("depthwise_1_BiasAdd", channel(4, -1.0)),),
    },
)
corpus.add("scenery", "operand", {"sub": (swapped("less_1_Sub"),)})

CASES = tuple(corpus.cases)
