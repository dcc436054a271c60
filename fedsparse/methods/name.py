"""The methods by name: the one list of them, which command lines read without numpy."""

from __future__ import annotations

from enum import Enum


class MethodName(str, Enum):
    """How sparsity is found; `dense` is plain federated averaging, for comparison."""

    DENSE = "dense"
    NST = "nst"
    PDST = "pdst"
    SPDST = "spdst"
    JMWST = "jmwst"
    SSFL = "ssfl"
    SPARSYFED = "sparsyfed"
