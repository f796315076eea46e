"""What ``benchmarks/model.py`` measures beside CLMER's own network."""
