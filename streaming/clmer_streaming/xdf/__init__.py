"""Extensible Data Format (XDF 1.0) files: reading what a file still holds, writing what others can open."""
