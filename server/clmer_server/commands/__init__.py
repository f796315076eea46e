"""Commands: one module for each command of ``clmer``, and ``serve`` for ``clmer-serve``.

A module is imported when its command is used. Each has ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which
returns the exit code.
"""
