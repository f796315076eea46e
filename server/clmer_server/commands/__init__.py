"""One module for each command of ``clmer``, and ``serve`` for ``clmer-serve``; imported only when it is chosen.

Each has ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which returns the exit code.
"""
