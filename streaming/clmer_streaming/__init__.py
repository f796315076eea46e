"""Signals, faces, clocks and recordings: everything between a source and a model window."""
