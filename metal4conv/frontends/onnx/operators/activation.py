"""Activation functions."""

from __future__ import annotations

import math

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value


@ONNX_OPS("Relu")
def relu(ctx: Context, X: Value) -> Value:
    return ctx.unary("relu", X) if X.is_float else ctx.maximum(X, 0)


@ONNX_OPS("Sigmoid")
def sigmoid(ctx: Context, X: Value) -> Value:
    return ctx.unary("sigmoid", X)


@ONNX_OPS("Softsign")
def softsign(ctx: Context, input: Value) -> Value:
    return ctx.unary("softsign", input)


@ONNX_OPS("Softplus")
def softplus(ctx: Context, X: Value) -> Value:
    return ctx.unary("softplus", X)


@ONNX_OPS("Softmax", since=13)
def softmax(ctx: Context, input: Value, *, axis: int = -1) -> Value:
    return ctx.unary("softmax", input, axis=axis)
