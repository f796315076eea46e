"""``clmer session``: list, show, export and delete recorded sessions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmer_server.cli import error_text
from clmer_streaming.errors import ClmerError, SettingsError

if TYPE_CHECKING:
    from clmer_server.archive.sessions import SessionFacts
    from clmer_server.archive.tables import TrialSpan
    from clmer_server.settings import ServeSettings


HELP = "list, show, export and delete recorded sessions"

_DEFAULT_ROOT = Path("recordings")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the subcommands and their options."""
    verbs = parser.add_subparsers(dest="verb", metavar="list|show|export|delete", required=True)
    listing = verbs.add_parser("list", help="all sessions, a line each", description="All sessions, a line each.")
    listing.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    showing = verbs.add_parser("show", help="one session in detail", description="One session in detail.")
    showing.add_argument("name", metavar="NAME", help="of the session, as list tells it")
    showing.add_argument("--json", action="store_true", help="print one JSON object")
    _add_export(verbs.add_parser("export", help="tables, or BIDS", description="Write a session as tables or as BIDS."))
    deleting = verbs.add_parser(
        "delete", help="a session and what was made from it", description="Delete a session and what was made from it."
    )
    deleting.add_argument("name", metavar="NAME", help="of the session, as list tells it")
    deleting.add_argument("--yes", action="store_true", help="do not ask")
    deleting.add_argument(
        "--work", type=Path, action="append", default=[], help="folder of stores, splits and models; may be repeated"
    )
    deleting.add_argument(
        "--with-calibration", action="store_true", help="and what is kept of its participant: neutral face, EEG at rest"
    )
    for verb in verbs.choices.values():
        verb.add_argument(
            "--root", type=Path, help="folder of the sessions (default: record of the settings, recordings)"
        )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the session, as list tells it")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where the files go")
    parser.add_argument("--format", choices=("csv", "parquet", "trials", "bids"), default="csv", help="(%(default)s)")
    parser.add_argument("--replace", action="store_true", help="write files anew that are there")
    trials = parser.add_argument_group("trials: one row each")
    trials.add_argument(
        "--start", metavar="PATTERN", help="labels of markers that begin a trial, such as 'trial_start/*'"
    )
    trials.add_argument("--stop", metavar="PATTERN", help="labels of markers that end it")
    trials.add_argument("--trial-s", type=float, metavar="SECONDS", help="length of a trial, in place of --stop")
    trials.add_argument("--trials", type=Path, metavar="FILE", help="CSV with onset and duration, in place of markers")
    bids = parser.add_argument_group("bids")
    bids.add_argument("--task", default="emotion", help="what the participant did (%(default)s)")
    bids.add_argument("--landmarks", action="store_true", help="with the face's points, which can identify a person")


def run(args: argparse.Namespace) -> int:
    """Run the subcommand."""
    from clmer_server.settings import load_settings

    settings = load_settings({})
    root = args.root or settings.record or _DEFAULT_ROOT
    verbs: dict[str, Callable[[argparse.Namespace, Path, ServeSettings], int]] = {
        "list": _list,
        "show": _show,
        "export": _export,
        "delete": _delete,
    }
    return verbs[args.verb](args, root, settings)


def _list(args: argparse.Namespace, root: Path, settings: ServeSettings) -> int:
    """List every session; print an error for one that cannot be read, and go on."""
    from clmer_server.archive.sessions import find_sessions, listing_entry, print_table

    sessions: list[dict[str, Any]] = []
    for stored in find_sessions(root):
        try:
            sessions.append(listing_entry(stored))
        except ClmerError as error:
            print(f"{stored.path}: cannot be read\n{error_text(error)}", file=sys.stderr)
    if args.json:
        print(json.dumps({"sessions": sessions}, indent=2, ensure_ascii=False))
    elif sessions:
        print_table(sessions)
    else:
        print(f"no recorded session in {root}")
    return 0


def _show(args: argparse.Namespace, root: Path, settings: ServeSettings) -> int:
    from clmer_server.archive.sessions import details_as_json, open_session, print_details, session_facts

    details = details_as_json(session_facts(open_session(root, args.name)))
    if args.json:
        print(json.dumps(details, indent=2, ensure_ascii=False))
    else:
        print_details(details)
    return 0


def _export(args: argparse.Namespace, root: Path, settings: ServeSettings) -> int:
    from clmer_server.archive.sessions import log_export, open_session, private_files, session_facts

    has_trial_options = any(value is not None for value in (args.start, args.stop, args.trial_s, args.trials))
    if has_trial_options and args.format != "trials":
        raise SettingsError("--format trials with --start, --stop, --trial-s and --trials", args.format, "add it")
    if args.landmarks and args.format != "bids":
        raise SettingsError("--format bids with --landmarks", args.format, "add it")
    stored = open_session(root, args.name)
    facts = session_facts(stored)
    with private_files():
        written = _write_bids(args, facts) if args.format == "bids" else [_write_table(args, facts)]
    log_export(stored, args.format, written)
    return 0


def _write_bids(args: argparse.Namespace, facts: SessionFacts) -> list[Path]:
    """Write the session into a BIDS data set, and print the number of files."""
    from clmer_server.archive.bids.export import BidsOptions, export_bids

    options = BidsOptions(args.task, landmarks=args.landmarks, replace=args.replace)
    written = export_bids(facts, args.to, options)
    print(f"{args.to}: {len(written)} files of {facts.stored.name}")
    return written


def _write_table(args: argparse.Namespace, facts: SessionFacts) -> Path:
    """Write a table of windows or trials, and print its file."""
    from clmer_server.archive.tables import check_parquet, trial_table, window_table, write_csv, write_parquet

    if args.format == "parquet":
        check_parquet()
    table = trial_table(facts, _spans(args, facts)) if args.format == "trials" else window_table(facts)
    what, ending = ("trials", "csv") if args.format == "trials" else ("windows", args.format)
    path: Path = args.to / f"{facts.stored.name}-{what}.{ending}"
    if path.exists() and not args.replace:
        raise SettingsError("a new file", f"{path}, which is there already", "--replace writes it anew")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (write_parquet if args.format == "parquet" else write_csv)(table, path)
    except OSError as error:
        raise SettingsError(
            f"a file that can be written: {path}", error.strerror or repr(error), "check --to"
        ) from error
    print(f"{path}: {len(table.rows)} {what}, {len(table.columns)} columns")
    return path


def _spans(args: argparse.Namespace, facts: SessionFacts) -> list[TrialSpan]:
    from clmer_server.archive.sessions import printable
    from clmer_server.archive.tables import TrialRule, trials_from_markers, trials_from_table

    rule = TrialRule(args.start, args.stop, args.trial_s)
    if args.trials is not None:
        if rule != TrialRule():
            raise SettingsError("--trials, or markers", "both", "leave one of them out")
        return trials_from_table(args.trials, facts.contents.t0)
    spans, notes = trials_from_markers(facts.contents.markers, rule)
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    if not spans:
        raise SettingsError("a trial that ends", f"{len(notes)} that do not", "see --stop, --trial-s or --trials")
    return spans


def _delete(args: argparse.Namespace, root: Path, settings: ServeSettings) -> int:
    from clmer_server.archive.deletion import plan_deletion
    from clmer_server.archive.sessions import open_session

    stored, work = open_session(root, args.name), [*settings.work, *args.work]
    deletion = plan_deletion(stored, work, settings.participants, with_calibration=args.with_calibration)
    print("\n".join(deletion.lines()))
    if not args.yes and not _confirm(args.name):
        print("nothing was deleted")
        return 1
    deletion.execute()
    print(f"deleted {args.name}")
    return 0


def _confirm(name: str) -> bool:
    """Return whether the user confirms the deletion by typing the session's name."""
    try:
        return input(f"Delete all this for good? Type the session's name, {name}: ").strip() == name
    except EOFError:
        print()
        return False
