"""``python -m clmer_server``: the same as ``clmer-serve``."""

from __future__ import annotations

import sys

from clmer_server.cli import serve_main

if __name__ == "__main__":
    sys.exit(serve_main())
