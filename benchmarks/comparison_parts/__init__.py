"""What ``benchmarks/comparison.py`` compares, on whom, and how."""
