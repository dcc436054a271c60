"""The algorithm and the contract of fedsparse: sparsity, methods, plan, wire, rounds."""

from typing import Final

__version__: Final = "0.1.0"
