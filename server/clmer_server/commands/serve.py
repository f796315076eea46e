"""``clmer-serve``: run the real-time service."""

from __future__ import annotations

import argparse

from clmer_server.settings import ServeSettings, SessionOptions, add_options, load_settings, settings_text

HELP = "Serve emotion predictions over WebSocket, with a dashboard, from live EEG or a recording."

_NO_SETTINGS = ("debug", "print_config", "check_config")
"""Options that are not settings of the service."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those not given come from the environment, the file or the defaults."""
    of_session, of_service = parser.add_argument_group("session"), parser.add_argument_group("service")
    for name, field in ServeSettings.model_fields.items():
        add_options(of_session if name in SessionOptions.model_fields else of_service, {name: field})
    parser.add_argument("--print-config", action="store_true", help="print the settings in force as TOML, and end")
    parser.add_argument("--check-config", action="store_true", help="check everything but the model's answers, and end")


def run(args: argparse.Namespace) -> int:
    """Load the settings, and serve until a signal comes; return the exit code."""
    settings = load_settings({name: value for name, value in vars(args).items() if name not in _NO_SETTINGS})
    if args.print_config:
        print(settings_text(settings))
        return 0
    from clmer_server.web.startup import start_service  # imported late, so that help and errors come at once

    start_service(settings, check_only=args.check_config)
    return 0
