"""Peak FLOP/s of accelerators, from the manufacturers' data sheets."""

# Dense bfloat16 (V100, T4: float16) FLOP/s of one JAX device, by the start of its `device_kind`.
# The first match counts.
PEAK_FLOPS = (
    ("TPU v2", 22.5e12),
    ("TPU v3", 61.5e12),
    ("TPU v4 lite", 138e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5e", 197e12),
    ("TPU v5", 459e12),
    ("TPU v6", 918e12),
    ("NVIDIA H100 PCIe", 756e12),
    ("NVIDIA H100 NVL", 835e12),
    ("NVIDIA H100", 989e12),
    ("NVIDIA H200", 989e12),
    ("NVIDIA B200", 2250e12),
    ("NVIDIA A100", 312e12),
    ("NVIDIA L40S", 362e12),
    ("NVIDIA L40", 181e12),
    ("NVIDIA L4", 121e12),
    ("Tesla V100", 125e12),
    ("Tesla T4", 65e12),
)


def peak_flops(device_kind: str) -> float | None:
    """Peak FLOP/s of a kind of device; None for a kind that is not in the table."""
    found = (peak for start, peak in PEAK_FLOPS if device_kind.startswith(start))
    return next(found, None)
