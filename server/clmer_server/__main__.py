"""``python -m clmer_server``: the same as ``clmer-serve``."""

from __future__ import annotations

from clmer_server.cli import serve_program

if __name__ == "__main__":
    serve_program()
