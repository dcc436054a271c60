"""How values travel: the codecs, and what a value takes in each (docs/wire.md, section 5).

The bytes themselves are made in `fedsparse/sparsity/values.py`, with numpy.
"""

from __future__ import annotations

from typing import Final

F32: Final = "f32"
F16: Final = "f16"
I8: Final = "i8"
VALUE_BYTES: Final = {F32: 4, F16: 2, I8: 1}  # of a kept value
DENSE_BYTES: Final = 4  # of a dense one, in every codec
