"""FLOPs that a kernel for GPUs declares, which no analysis of a compiled program knows.

Pallas drops a kernel's cost estimate when it lowers to Triton. The name of an instruction's source
survives into the text of the compiled program, so the FLOPs are a part of that name.
"""

import re
from contextlib import AbstractContextManager

import jax

DECLARED = re.compile(r"\bkernel_flops=(\d+)\b")


def declare_flops(flops: int) -> AbstractContextManager:
    """Kernels that are called inside, one in each, declare these FLOPs of one call on one device.

    Those of matmuls, as everywhere: a multiplication and an addition are two.
    """
    return jax.named_scope(f"kernel_flops={flops}")


def declared_flops(source: str) -> int:
    """The FLOPs that an instruction declares, by the name of its source; 0 if it declares none."""
    found = DECLARED.search(source)
    return int(found[1]) if found else 0
