"""Dropout from numbers that are given: the training graph draws nothing itself.

A graph with a random operator could neither be tested against torch nor reproduce a run to the bit,
so that every dropout reads uniform numbers `(batch, n)`, one input of the graph each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final
from unittest import mock

import sympy
import torch
import torch.nn.functional as F

from fedsparse.errors import PlanError


class Draws:
    """While entered, dropout keeps an element where its given number is at least `p`.

    It takes the place of torch's functions under their names in `torch.nn.functional`, where
    torch's layers find them; what a model draws by other means stays, and is refused later.

    Args:
        batch: number of samples (a symbol while tracing).
        given: for each dropout in the order met, `(batch, n)` in [0, 1); None while counting:
            nothing is dropped then.

    Attributes:
        needed: `n` of each dropout met so far: its numbers for one sample.
    """

    def __init__(self, batch: Any, given: Sequence[torch.Tensor] | None = None) -> None:  # noqa: ANN401
        self.needed: list[int] = []
        self._batch = batch
        self._given = given
        self._patches = ExitStack()

    def __enter__(self) -> Draws:
        for name, function in _REPLACED.items():
            replacement = functools.partial(function, self)
            self._patches.enter_context(mock.patch.object(F, name, replacement))
        return self

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def drop(self, x: torch.Tensor, p: float, shape: Sequence[Any]) -> torch.Tensor:
        """`x`, with the elements of `shape` (broadcast over `x`) dropped with probability `p`."""
        if not 0 <= p < 1:
            raise PlanError(f"dropout with p = {p}: it must be at least 0 and below 1")
        self.needed.append(_for_one_sample(shape, self._batch))
        if self._given is None:
            return x * 1.0
        uniform = self._given[len(self.needed) - 1].reshape(list(shape))
        return x * ((uniform >= p).to(x.dtype) * (1.0 / (1.0 - p)))


def _for_one_sample(shape: Sequence[Any], batch: Any) -> int:  # noqa: ANN401
    """Elements by batch size; of the symbols' expressions, for asking a symbol would settle it."""
    sizes = [size.node.expr if isinstance(size, torch.SymInt) else size for size in shape]
    samples = batch.node.expr if isinstance(batch, torch.SymInt) else batch
    needed = sympy.Rational(1) * math.prod(sizes) / samples
    if not needed.is_Integer:
        raise PlanError(f"dropout of {tuple(shape)}: its size is no multiple of the batch's")
    return int(needed)


def _dropout(
    draws: Draws, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    return _in_place(x, draws.drop(x, p, x.shape), inplace) if training and p > 0 else x


def _channel_dropout(
    draws: Draws, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> torch.Tensor:
    shape = [*x.shape[:2], *(1 for _ in x.shape[2:])]
    return _in_place(x, draws.drop(x, p, shape), inplace) if training and p > 0 else x


def _in_place(x: torch.Tensor, value: torch.Tensor, inplace: bool) -> torch.Tensor:
    return x.copy_(value) if inplace else value


def _attention(
    draws: Draws,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> torch.Tensor:
    """`scaled_dot_product_attention` by its definition."""
    if enable_gqa:
        raise PlanError("attention with enable_gqa: repeat the keys and values in the model")
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -1e30)  # minus infinity makes NaN of empty rows
    elif attn_mask is not None:
        scores = scores + attn_mask
    attended: torch.Tensor = _dropout(draws, scores.softmax(-1), dropout_p) @ value
    return attended


def _linear(
    draws: Draws, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """As one matrix product; torch's own asks for the batch size as a number and so settles it."""
    rows = x.reshape(-1, x.shape[-1]) if x.dim() != 2 else x
    product = rows @ weight.t() if bias is None else torch.addmm(bias, rows, weight.t())
    return product if x.dim() == 2 else product.reshape(*x.shape[:-1], weight.shape[0])


_REPLACED: Final[dict[str, Callable[..., torch.Tensor]]] = {
    "dropout": _dropout,
    "dropout1d": _channel_dropout,
    "dropout2d": _channel_dropout,
    "dropout3d": _channel_dropout,
    "linear": _linear,
    "scaled_dot_product_attention": _attention,
}
