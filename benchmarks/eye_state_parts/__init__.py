"""What ``benchmarks/eye_state.py`` reads, trains and asks."""
