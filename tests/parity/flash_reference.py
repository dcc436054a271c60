"""FLASH as its reference code computes it: dense tensors, 0/1 masks, torch, float64.

Written anew from the formulas of GitHub SaraBabakN/flash_fl at fb88313 (training/client.py,
training/aggregator.py, utiles.py), of which each function names its source.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from aggregator.models.to_torch import to_torch
from aggregator.models.weights import from_tensors, tensors_by_name
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Float32Array, IntArray, Weights

torch.set_num_threads(1)  # the tests run side by side

State = dict[str, torch.Tensor]  # every tensor of a model, by name
Masks = dict[str, torch.Tensor]  # of the prunable ones, 0 or 1
Batch = tuple[Float32Array, IntArray]


def state_of(plan: Plan, weights: Weights) -> State:
    """Server weights, prunable `(num_prunable,)` and dense `(num_dense,)`, as dense tensors."""
    tensors = tensors_by_name(plan, weights)
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in tensors.items()}


def masks_of(plan: Plan, mask: BoolArray) -> Masks:
    """A mask `(num_prunable,)` as dense tensors."""
    parts = np.split(mask, np.cumsum([tensor.size for tensor in plan.prunable])[:-1])
    return {
        tensor.name: torch.tensor(part.reshape(tensor.shape), dtype=torch.float64)
        for tensor, part in zip(plan.prunable, parts, strict=True)
    }


def weights_of(plan: Plan, state: State) -> Weights:
    """The flat float32 vectors of a state."""
    return from_tensors(plan, {name: one.float().numpy() for name, one in state.items()})


def local_training(
    plan: Plan, state: State, masks: Masks, batches: Sequence[Batch], learning_rate: float
) -> State:
    """A client's epoch: plain SGD, and what the mask drops is set to 0 after each step.

    Source: Client.update, Client.train (`pdst`, and a hetero client whose mask is fixed).
    """
    module = to_torch(plan).double()
    module.load_state_dict(state, strict=False)
    parameters = dict(module.named_parameters())
    _apply(parameters, masks)
    optimizer = torch.optim.SGD(module.parameters(), lr=learning_rate)
    for samples, labels in batches:
        optimizer.zero_grad()
        outputs = module(torch.tensor(samples, dtype=torch.float64))
        torch.nn.functional.cross_entropy(outputs, torch.tensor(labels)).backward()
        optimizer.step()
        _apply(parameters, masks)
    return {name: module.state_dict()[name].clone() for name in state}


def average_weights(states: Sequence[State]) -> State:
    """Source: average_weights (`update_mode` 0): the plain mean."""
    return {name: sum(one[name] for one in states) / len(states) for name in states[0]}


def masked_average_weights(states: Sequence[State], masks: Sequence[Masks]) -> State:
    """Source: masked_average_weights, nan_to_zero: sum / holders; 0 where nobody holds."""
    mean = average_weights(states)
    for name in masks[0]:
        total = sum(one[name] for one in states)
        mean[name] = (total / sum(one[name] for one in masks)).nan_to_num(nan=0.0)
    return mean


def top_masks(state: State, masks: Masks, density: float) -> Masks:
    """A lower budget's mask: the largest weights, within the profile of those that are not 0.

    Source: get_next_round_mask with get_aggregation_based_sensitivity.
    """
    nonzero = {name: int((state[name] != 0).sum()) for name in masks}
    elements = sum(state[name].numel() for name in masks)
    ratio = min(1, elements / sum(nonzero.values()) * density)
    found = {}
    for name in masks:
        flat = torch.zeros(state[name].numel(), dtype=torch.float64)
        order = torch.sort(state[name].abs().view(-1), descending=True).indices
        flat[order[: int(nonzero[name] * ratio)]] = 1.0
        found[name] = flat.view(state[name].shape)
    return found


def _apply(parameters: State, masks: Masks) -> None:
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name] *= mask
