"""Benchmarks: every system is verified against PyTorch first, then timed beside the others."""
