"""Tests of lsl."""
