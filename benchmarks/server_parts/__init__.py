"""What ``benchmarks/server.py`` is made of."""
