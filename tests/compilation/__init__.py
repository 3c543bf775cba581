FIXED_NAMES = {
    "topology",
    "chips",
    "bytes_per_chip",
    "bytes_limit",
    "flops_per_step",
    "bytes_moved_per_step",
    "roofline_seconds",
    "roofline_mfu",
    "compile_seconds",
}
"""What tools may rely on in the figures of a compile check."""
