"""What is known of a recording before it begins: its folder, and the record that it begins with."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from clmer_server.recording_folder import RecordingFolder, make_recording_folder

if TYPE_CHECKING:
    from clmer_server.events import EventContext
    from clmer_server.settings import ServeSettings
    from clmer_streaming.config import PreprocessConfig

_PASSWORD = re.compile(r"//[^/@\s]*@")  # user and password within a camera's URL


@dataclass(frozen=True)
class RecordingPlan:
    """Where a session is recorded, and what its first record says."""

    folder: RecordingFolder
    header: dict[str, Any]  # plain JSON values


def plan_recording(
    settings: ServeSettings, context: EventContext, preprocess: PreprocessConfig, name: str | None = None
) -> RecordingPlan | None:
    """Make the folder of the session; return None where nothing is to be recorded.

    Args:
        settings: Those of this session.
        context: What its events share.
        preprocess: The signal settings of the model.
        name: Of the new folder; None: as the session is called.

    Raises:
        SettingsError: The folder is there already or cannot be made.
    """
    if settings.record is None:
        return None
    header = {
        "version": version("clmer"),
        "session": context.session,
        "participant": context.participant,
        "consent_ref": settings.consent_ref,
        "first_seq": context.first_seq,
        "source": context.source,
        "model": context.model.model_dump(mode="json"),
        "preprocess": preprocess.to_dict(),
        "settings": _without_passwords(settings.model_dump(mode="json", exclude={"sessions"})),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    return RecordingPlan(make_recording_folder(settings.record, name or context.session), header)


def _without_passwords(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: _PASSWORD.sub("//", value) if isinstance(value, str) else value for name, value in settings.items()}
