"""Recorded sessions on disk: found, told of, exported and deleted."""
