"""Tests of xdf."""
