"""Training in torch behind the devices' protocol: an oracle, and simulations on an accelerator.

Devices never need it. It computes with dense tensors, so that a density saves nothing here: what it
gives is another implementation to hold the native engine against, and the speed of a GPU. torch is
an extra; importing this module does not import it.
"""

from __future__ import annotations

from edge_client.runtime.engine import Engine
from fedsparse.errors import ConfigError
from fedsparse.plan import Plan
from fedsparse.types import BoolArray, Weights


def open_torch_engine(
    plan: Plan,
    mask: BoolArray,
    weights: Weights,
    *,
    batch_size: int,
    momentum: float,
    weight_decay: float,
    seed: int,
    device: str,
    softmax_first: bool = False,
) -> Engine:
    """A `TorchEngine` in float32, ready to train; the arguments are the engine's.

    Raises:
        ConfigError: torch is missing, or it has no such device here.
        EngineError: mask or weights do not fit the plan, or its loss takes no softmax.
        PlanError: the plan has an operator that torch cannot run.
    """
    _check_torch()
    from tools.torch_engine.engine import TorchEngine

    return TorchEngine(
        plan,
        mask,
        weights,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        seed=seed,
        device=device,
        softmax_first=softmax_first,
    )


def torch_device() -> str:
    """Where torch trains fastest on this machine: `cuda` where it finds a GPU, else `cpu`.

    Raises:
        ConfigError: torch is missing.
    """
    _check_torch()
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the torch engine needs torch: pip install 'fedsparse[torch]', or choose the engine "
            "'sparse'"
        ) from error
