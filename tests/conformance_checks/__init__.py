"""What the library computes for reference files, array by array; see `tests/conformance.py`."""
