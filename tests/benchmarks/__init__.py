"""Tests of the benchmarks: that each runs, and that what it compares is sound."""
