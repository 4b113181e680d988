"""Small functions of PyTorch whose arguments are not the default ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Case = Callable[[Tensor], Tensor]

WEIGHTS = {
    shape: torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    for shape in ((6,), (8,), (6, 8), (8, 8), (3, 6, 3), (6, 1, 3), (6, 3, 3), (6, 6, 3, 3))
} | {(4, 3, 2, 2): torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(1))}
"""Parameters by their shape."""


def seeded(module: torch.nn.Module) -> torch.nn.Module:
    """The module with parameters of its own, and not those that it was drawn with."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator)
                value.copy_(drawn.abs() + 0.5 if "var" in name else drawn / 2)
    return module.eval()


def picture(x: Tensor) -> Tensor:
    """One picture of six channels."""
    return x.reshape(1, 6, 4, 8)


def matrix(x: Tensor) -> Tensor:
    """The elements in rows of eight."""
    return x.reshape(24, 8)


def indices(x: Tensor) -> Tensor:
    """Numbers from 0 to 7, of which some are there twice."""
    return (x.abs() * 1000).to(torch.int64) % 8


W = WEIGHTS
ARITHMETIC: dict[str, Case] = {
    "add_alpha": lambda x: torch.add(x, x.flip(0), alpha=2),
    "add_alpha_of_number": lambda x: torch.add(x, 0.3, alpha=2),
    "add_in_place_alpha": lambda x: x.clone().add_(x.flip(0), alpha=0.5),
    "rsub_alpha": lambda x: torch.rsub(x, x.flip(0), alpha=3),
    "rsub_number_alpha": lambda x: torch.rsub(x, 1.5, alpha=3),
    "addmm": lambda x: torch.addmm(matrix(x), matrix(x), W[8, 8], beta=2, alpha=3),
    "baddbmm": lambda x: torch.baddbmm(x, x, W[8, 8].expand(4, 8, 8), beta=2, alpha=3),
    "div_floor": lambda x: torch.div(x * 9, 2, rounding_mode="floor"),
    "div_floor_beside_floor": lambda x: torch.div(torch.floor(x) + x, 2, rounding_mode="floor"),
    "div_trunc": lambda x: torch.div(x * 9, 2, rounding_mode="trunc"),
    "div_trunc_tensor": lambda x: torch.div(x * 9, x.flip(0).abs() + 1, rounding_mode="trunc"),
    "div_floor_integers": lambda x: torch.div(indices(x) - 4, 3, rounding_mode="floor"),
    "div_trunc_integers": lambda x: torch.div(indices(x) - 4, 3, rounding_mode="trunc"),
    "floor_divide": lambda x: torch.floor_divide(x * 9, 2),
    "floor_divide_integers": lambda x: (indices(x) - 4) // 3,
    "remainder": lambda x: torch.remainder(x * 9, 2),
    "remainder_negative": lambda x: torch.remainder(x * 9, -2),
    "remainder_integers": lambda x: torch.remainder(indices(x) - 4, 3),
    "remainder_of_number": lambda x: torch.remainder(5.0, x.abs() + 1),
    "clamp": lambda x: torch.clamp(x, -0.2, 0.3),
    "clamp_tensors": lambda x: torch.clamp(x, x.flip(0) - 0.1, x.flip(0) + 0.2),
    "clamp_tensor_max": lambda x: torch.clamp(x, max=x.flip(0)),
    "clamp_crossed": lambda x: torch.clamp(x, 0.5, -0.5),
    "clamp_integers": lambda x: torch.clamp(indices(x), 2, 5),
    "clamp_integers_float": lambda x: torch.clamp(indices(x), 2.5, 5.5),
    "nan_to_num": lambda x: torch.nan_to_num(x / 0.0, nan=1.0, posinf=2.0, neginf=-3.0),
    "nan_to_num_nan": lambda x: torch.nan_to_num((x - 0.5).log(), nan=5.0, neginf=0.0),
    "bitwise_not_integers": lambda x: torch.bitwise_not(indices(x)),
    "true_divide": lambda x: torch.true_divide(indices(x), 2),
    "to_int_trunc": lambda x: (x * 9).to(torch.int32),
    "to_uint8": lambda x: (x.abs() * 9).to(torch.uint8),
    "where_number": lambda x: torch.where(x > 0, x, 0.5),
    "where_two_numbers": lambda x: torch.where(x > 0, 1.0, 0.5),
    "cosine_similarity": lambda x: functional.cosine_similarity(x, x.flip(0), dim=1, eps=2.0),
}
ACTIVATIONS: dict[str, Case] = {
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "softplus": lambda x: functional.softplus(3 * x, beta=2, threshold=1),
    "softplus_of_beta": lambda x: functional.softplus(x, beta=3),
    "elu": lambda x: functional.elu(x, alpha=0.3),
    "hardtanh": lambda x: functional.hardtanh(x, -0.2, 0.7),
    "hardsigmoid": lambda x: functional.hardsigmoid(4 * x),
    "softshrink": lambda x: functional.softshrink(x, 0.2),
    "threshold": lambda x: functional.threshold(x, 0.1, -5.0),
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.3),
    "rrelu": lambda x: functional.rrelu(x, 0.1, 0.5),
    "glu": lambda x: functional.glu(x, dim=1),
    "softmin": lambda x: functional.softmin(x, dim=1),
    "softmax_of_integers": lambda x: functional.softmax(indices(x), 1, dtype=torch.float32),
    "log_softmax": lambda x: functional.log_softmax(x, dim=1),
    "normalize": lambda x: functional.normalize(x, p=2.0, dim=1, eps=9.0),
}
NORMS: dict[str, Case] = {
    "rms_norm": lambda x: functional.rms_norm(x, (8,), eps=0.1),
    "rms_norm_of_two": lambda x: functional.rms_norm(x, (6, 8), weight=W[6, 8], eps=0.3),
    "layer_norm_of_bias": lambda x: functional.layer_norm(x, (6, 8), W[6, 8], W[6, 8] + 1, 0.1),
    "group_norm_of_bias": lambda x: functional.group_norm(x, 3, W[6,], W[6,] + 1, eps=0.5),
    "batch_norm": lambda x: functional.batch_norm(
        x, W[6,], W[6,].abs() + 0.5, W[6,], W[6,], eps=0.5
    ),
    "batch_norm_of_batch": lambda x: functional.batch_norm(x, None, None, training=True, eps=0.5),
    "local_response_norm": lambda x: functional.local_response_norm(
        picture(x), 3, alpha=0.5, beta=0.6, k=2.0
    ),
}
POOLS: dict[str, Case] = {
    "max_pool1d_ceil": lambda x: functional.max_pool1d(x, 3, 2, ceil_mode=True),
    "max_pool2d": lambda x: functional.max_pool2d(picture(x), 2),
    "max_pool2d_ceil": lambda x: functional.max_pool2d(picture(x), 3, 2, ceil_mode=True),
    "max_pool2d_ceil_padding": lambda x: functional.max_pool2d(picture(x), 3, 2, 1, ceil_mode=True),
    "max_pool2d_rectangle": lambda x: functional.max_pool2d(picture(x), (2, 3), (1, 2), (0, 1)),
    "max_pool3d": lambda x: functional.max_pool3d(x.reshape(1, 1, 4, 6, 8), 2),
    "avg_pool1d_excluded": lambda x: functional.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool1d_no_stride": lambda x: functional.avg_pool1d(x, 2),
    "avg_pool2d_included": lambda x: functional.avg_pool2d(picture(x), 3, 2, 1),
    "avg_pool2d_excluded": lambda x: functional.avg_pool2d(
        picture(x), 3, 2, 1, count_include_pad=False
    ),
    "avg_pool2d_ceil": lambda x: functional.avg_pool2d(picture(x), 3, 2, ceil_mode=True),
    "avg_pool2d_ceil_padding": lambda x: functional.avg_pool2d(picture(x), 3, 2, 1, ceil_mode=True),
    "avg_pool2d_ceil_excluded": lambda x: functional.avg_pool2d(
        picture(x), 3, 2, 1, ceil_mode=True, count_include_pad=False
    ),
    "avg_pool3d": lambda x: functional.avg_pool3d(x.reshape(1, 1, 4, 6, 8), 2, 2),
    "lp_pool2d": lambda x: functional.lp_pool2d(picture(x).abs(), 2.0, 2),
    "adaptive_avg_pool_uneven": lambda x: functional.adaptive_avg_pool2d(picture(x), (3, 5)),
    "adaptive_avg_pool_none": lambda x: functional.adaptive_avg_pool2d(picture(x), (None, 2)),
    "adaptive_avg_pool1d_uneven": lambda x: functional.adaptive_avg_pool1d(x, 3),
    "adaptive_max_pool_uneven": lambda x: functional.adaptive_max_pool2d(picture(x), (3, 5)),
    "adaptive_max_pool1d": lambda x: functional.adaptive_max_pool1d(x, 4),
}
CONVOLUTIONS: dict[str, Case] = {
    "conv1d_same": lambda x: functional.conv1d(x, W[3, 6, 3], padding="same"),
    "conv1d_same_dilated": lambda x: functional.conv1d(x, W[3, 6, 3], padding="same", dilation=2),
    "conv1d_same_even": lambda x: functional.conv1d(x, W[3, 6, 3][..., :2], padding="same"),
    "conv1d_groups": lambda x: functional.conv1d(x, W[6, 1, 3], W[6,], 2, 1, 2, 6),
    "conv2d": lambda x: functional.conv2d(picture(x), W[6, 6, 3, 3], W[6,], (1, 2), (2, 1), (1, 2)),
    "conv2d_same": lambda x: functional.conv2d(picture(x), W[6, 6, 3, 3], padding="same"),
    "conv_transpose1d": lambda x: functional.conv_transpose1d(
        x, W[6, 3, 3], stride=3, padding=1, output_padding=2
    ),
    "conv_transpose1d_groups": lambda x: functional.conv_transpose1d(
        x, W[6, 1, 3], W[6,], stride=2, padding=1, output_padding=1, groups=6
    ),
    "conv_transpose2d": lambda x: functional.conv_transpose2d(
        picture(x), W[6, 6, 3, 3], W[6,], (2, 1), (1, 2), (1, 0)
    ),
    "conv_transpose2d_dilation": lambda x: functional.conv_transpose2d(
        picture(x), W[6, 6, 3, 3], stride=2, padding=1, output_padding=1, dilation=2
    ),
    "unfold": lambda x: functional.unfold(picture(x), (2, 3), 1, (1, 0), (2, 1)),
    "fold": lambda x: functional.fold(x, (5, 3), (2, 2)) if x.shape[1] == 8 else x,
}
PADS: dict[str, Case] = {
    "constant": lambda x: functional.pad(x, (1, 2, 0, 3), value=0.7),
    "constant_of_integers": lambda x: functional.pad(indices(x), (1, 2), value=5),
    "reflect": lambda x: functional.pad(x, (1, 2), mode="reflect"),
    "replicate": lambda x: functional.pad(x, (1, 2), mode="replicate"),
}
RESIZES: dict[str, Case] = (
    {
        f"{mode}_{name}": lambda x, mode=mode, kept=kept: functional.interpolate(
            picture(x), mode=mode, **kept
        )
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")
        for name, kept in {
            "odd_scale": {"scale_factor": 1.7},
            "odd_scale_recomputed": {"scale_factor": 1.7, "recompute_scale_factor": True},
            "size": {"size": (7, 5)},
            "scales": {"scale_factor": (2.0, 1.5)},
        }.items()
    }
    | {
        f"{mode}_{name}": lambda x, mode=mode, kept=kept: functional.interpolate(
            picture(x), mode=mode, **kept
        )
        for mode in ("bilinear", "bicubic")
        for name, kept in {
            "corners": {"size": (7, 5), "align_corners": True},
            "corners_scale": {"scale_factor": 1.7, "align_corners": True},
            "antialias": {"size": (2, 3), "antialias": True},
            "antialias_larger": {"size": (9, 11), "antialias": True},
        }.items()
    }
    | {
        "linear_1d_corners": lambda x: functional.interpolate(
            x, size=13, mode="linear", align_corners=True
        ),
        "nearest_1d_size": lambda x: functional.interpolate(x, size=11),
    }
    | {
        f"grid_{mode}_{padding}_{corners}": lambda x, m=mode, p=padding, c=corners: (
            functional.grid_sample(picture(x), 1.5 * x[0, :, :].reshape(1, 4, 6, 2), m, p, c)
        )
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for corners in (True, False)
    }
)
REDUCTIONS: dict[str, Case] = (
    {
        "sum_dtype": lambda x: (x > 0).sum(1, dtype=torch.float32),
        "sum_integers_of_float": lambda x: (9 * x).sum(1, dtype=torch.int32),
        "sum_no_dims": lambda x: x.sum(dim=[]),
        "mean_dtype": lambda x: indices(x).mean(1, dtype=torch.float32),
        "var_correction": lambda x: x.var((0, 2), correction=3, keepdim=True),
        "var_correction_zero": lambda x: torch.var(x, 1, correction=0),
        "var_all_biased": lambda x: x.var(unbiased=False),
        "var_correction_all": lambda x: torch.var(x, correction=3),
        "std_correction": lambda x: torch.std(x, 1, correction=2),
        "cumsum_dtype": lambda x: (x > 0).cumsum(1, dtype=torch.float32),
        "cumprod": lambda x: x.cumprod(1),
        "logsumexp": lambda x: torch.logsumexp(x, (0, 2), keepdim=True),
        "logcumsumexp": lambda x: torch.logcumsumexp(x, 1),
        "amax": lambda x: x.amax((0, 2), keepdim=True),
        "max_indices": lambda x: x.max(1).indices,
        "min_indices": lambda x: x.min(1, keepdim=True).indices,
        "argmax_all": lambda x: x.argmax(),
        "argmax_all_keepdim": lambda x: torch.argmax(x, keepdim=True),
        "any_all": lambda x: (x > 9).any().float(),
        "topk_smallest": lambda x: x.topk(3, -1, largest=False).values,
        "topk_indices": lambda x: x.topk(3, 1, largest=False).indices,
        "topk_unsorted": lambda x: x.topk(3, 1, sorted=False).values.sum(1),
        "sort_descending": lambda x: x.sort(1, descending=True).values,
        "argsort": lambda x: x.argsort(1, descending=True),
    }
    | {
        f"norm_{p}": lambda x, p=p: torch.norm(x, p, 1, keepdim=True)
        for p in (0, 1, 2, 3, 0.5, float("inf"), float("-inf"))
    }
    | {
        f"vector_norm_{p}": lambda x, p=p: torch.linalg.vector_norm(x, p, (1, 2))
        for p in (0, 1, 2, 3, 0.5, float("inf"), float("-inf"))
    }
    | {
        "norm_fro": lambda x: torch.norm(x, "fro", (1, 2)),
        "matrix_norm": lambda x: torch.linalg.matrix_norm(x),
        "matrix_norm_1": lambda x: torch.linalg.matrix_norm(x, 1),
        "matrix_norm_inf": lambda x: torch.linalg.matrix_norm(x, float("inf"), keepdim=True),
    }
)


def put(x: Tensor, accumulate: bool) -> Tensor:
    rows = torch.tensor([0, 2, 0, 3])
    return x.index_put((rows,), x * 2, accumulate=accumulate)


def scattered(x: Tensor, **more: object) -> Tensor:
    return x.scatter(1, indices(x) % 6, 2 * x.flip(0), **more)


SELECTIONS: dict[str, Case] = {
    "roll": lambda x: x.roll((1, -2), (0, 2)),
    "roll_flat": lambda x: x.roll(5),
    "roll_more": lambda x: x.roll(11, 1),
    "repeat_more": lambda x: x.repeat(2, 1, 1, 3),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "repeat_interleave_flat": lambda x: x.repeat_interleave(3),
    "index_put_accumulate": lambda x: put(x, True),
    "index_put_two": lambda x: x.index_put((torch.tensor([0, 2]), torch.tensor([1, 3])), x[0, :2]),
    "index_put_mask": lambda x: x.index_put((x > 0,), torch.tensor(0.5)),
    "index_put_mask_accumulate": lambda x: x.index_put((x > 0,), torch.tensor(0.5), True),
    "index_negative": lambda x: x[:, torch.tensor([-1, 2, -3])],
    "index_two": lambda x: x[torch.tensor([0, 3]), torch.tensor([1, -2])],
    "index_apart": lambda x: x[torch.tensor([0, 3]), :, torch.tensor([1, -2])],
    "select_scatter": lambda x: torch.select_scatter(x, x[:, 1] * 2, 1, -2),
    "slice_scatter": lambda x: torch.slice_scatter(x, x[:, :2] * 2, 1, 1, 5, 2),
    "assigned": lambda x: assigned(x),
    "scatter_number": lambda x: x.scatter(1, torch.zeros(4, 1, 8, dtype=torch.int64), 0.5),
    "scatter_add": lambda x: x.scatter_add(1, indices(x) % 6, 2 * x),
    "scatter_reduce_add": lambda x: scattered(x, reduce="add"),
    "scatter_reduce_multiply": lambda x: scattered(x, reduce="multiply"),
    "triu_negative": lambda x: x.triu(-2),
    "tril_positive": lambda x: x.tril(2),
    "trace": lambda x: torch.trace(x[0]),
    "chunk_uneven": lambda x: x.chunk(4, 1)[2],
    "tensor_split": lambda x: x.tensor_split((1, 4), 1)[1],
    "meshgrid_xy": lambda x: torch.meshgrid(x[0, 0], x[0, :, 1], indexing="xy")[0],
    "embedding_padding": lambda x: functional.embedding(indices(x), W[8, 8], padding_idx=3),
    "one_hot": lambda x: functional.one_hot(indices(x), 8),
    "nonzero": lambda x: torch.nonzero(x > -9),
}


def assigned(x: Tensor) -> Tensor:
    """What assignments to parts of a tensor make of it."""
    y = x.clone()
    y[:, 1::2, 2:5] = 0.5
    y[1, -1] = x[0, 0]
    y[..., -1] += 2
    return y


CREATIONS: dict[str, Case] = {
    "full_like": lambda x: torch.full_like(x, 2.5) + 0 * x,
    "full_like_integer": lambda x: torch.full_like(x, 3, dtype=torch.int32) + indices(x),
    "new_full": lambda x: x.new_full((8,), 0.5) + x,
    "arange_step": lambda x: torch.arange(0.5, 4.5, 0.5) + x,
    "arange_down": lambda x: torch.arange(8, 0, -1) + x,
    "arange_of_size": lambda x: torch.arange(x.shape[2]) + x,
    "linspace": lambda x: torch.linspace(-1, 2, 8) + x,
    "linspace_of_one": lambda x: torch.linspace(-1, 2, 1) + x,
    "hann_window": lambda x: torch.hann_window(8) * x,
}
PRODUCTS: dict[str, Case] = (
    {}
    | {
        f"einsum_{form.replace('->', '_to_').replace(',', '_').replace('...', 'rest')}": (
            lambda x, form=form, second=second: torch.einsum(
                form, *((x,) if second is None else (x, second))
            )
        )
        for form, second in {
            "abc->acb": None,
            "abc->ab": None,
            "abc,cd->abd": W[8, 8],
            "abc,dc->abd": W[8, 8],
            "abc,bc->a": W[6, 8],
            "abc,bc->abc": W[6, 8],
            "abc,c->ab": W[8,],
            "abc,d->abcd": W[6,],
            "abc,bd->adc": W[6, 8],
        }.items()
    }
    | {
        "einsum_diagonal": lambda x: torch.einsum("abb->ab", x[:, :, :6]),
        "einsum_heads": lambda x: torch.einsum(
            "bihd,bjhd->bhij", x.reshape(4, 3, 2, 8), x.reshape(4, 3, 2, 8)
        ),
        "einsum_three": lambda x: torch.einsum("abc,cd,de->abe", x, W[8, 8], W[8, 8]),
    }
)


def heads(x: Tensor, count: int) -> Tensor:
    return x.reshape(1, count, 24 // count, 8)


def attended(x: Tensor, **more: object) -> Tensor:
    q = heads(x, 4)
    return functional.scaled_dot_product_attention(q, q.flip(2), q * 2, **more)


ATTENTION: dict[str, Case] = {
    "scale": lambda x: attended(x, scale=0.7),
    "causal": lambda x: attended(x, is_causal=True),
    "causal_scale": lambda x: attended(x, is_causal=True, scale=0.7),
    "mask": lambda x: attended(x, attn_mask=x[0, :, :6]),
    "bool_mask": lambda x: attended(x, attn_mask=torch.ones(6, 6, dtype=torch.bool).tril()),
    "mask_scale": lambda x: attended(x, attn_mask=x[0, :, :6], scale=0.7),
    "other_length": lambda x: functional.scaled_dot_product_attention(
        heads(x, 4), heads(x, 4)[:, :, :5], heads(x, 4)[:, :, :5]
    ),
    "causal_other_length": lambda x: functional.scaled_dot_product_attention(
        heads(x, 4)[:, :, :4], heads(x, 4), heads(x, 4), is_causal=True
    ),
}
MODULES: dict[str, torch.nn.Module] = {
    name: seeded(module)
    for name, module in {
        "lstm_batch_first": torch.nn.LSTM(8, 5, batch_first=True),
        "lstm_two_layers": torch.nn.LSTM(8, 5, 2, batch_first=True),
        "lstm_bidirectional": torch.nn.LSTM(8, 5, bidirectional=True, batch_first=True),
        "lstm_bidirectional_two": torch.nn.LSTM(8, 5, 2, bidirectional=True),
        "gru_batch_first": torch.nn.GRU(8, 5, batch_first=True),
        "gru_two_layers": torch.nn.GRU(8, 5, 2),
        "gru_bidirectional": torch.nn.GRU(8, 5, bidirectional=True),
        "rnn": torch.nn.RNN(8, 5),
        "rnn_relu": torch.nn.RNN(8, 5, nonlinearity="relu", batch_first=True),
        "conv_replicate": torch.nn.Conv1d(6, 3, 3, padding=2, padding_mode="replicate"),
        "instance_norm_tracked": torch.nn.InstanceNorm1d(
            6, eps=0.3, affine=True, track_running_stats=True
        ),
        "multihead": torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        "multihead_norm_first": torch.nn.TransformerEncoderLayer(
            8, 2, 16, norm_first=True, activation="gelu", layer_norm_eps=0.1
        ),
    }.items()
}


class Called(torch.nn.Module):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        found = self.module(x)
        return found[0] if isinstance(found, tuple) else found


FAMILIES: dict[str, dict[str, Case]] = {
    "arithmetic": ARITHMETIC,
    "activations": ACTIVATIONS,
    "norms": NORMS,
    "pools": POOLS,
    "convolutions": CONVOLUTIONS,
    "pads": PADS,
    "resizes": RESIZES,
    "reductions": REDUCTIONS,
    "selections": SELECTIONS,
    "creations": CREATIONS,
    "products": PRODUCTS,
    "attention": ATTENTION,
    "modules": {name: Called(module) for name, module in MODULES.items()},
}


GAPS: dict[str, tuple[str, ...]] = {
    "pt2": (
        "arithmetic_remainder_of_number",
        "arithmetic_where_number",
        "reductions_matrix_norm",
        "reductions_matrix_norm_1",
        "reductions_matrix_norm_inf",
        "creations_hann_window",
        "selections_roll_flat",
        "selections_scatter_number",
    ),
    "pt": (
        "activations_softshrink",
        "modules_multihead",
        "selections_assigned",
        "selections_chunk_uneven",
        "selections_tensor_split",
    ),
}
"""What cannot be converted from an exported program, or from TorchScript, and is refused."""
