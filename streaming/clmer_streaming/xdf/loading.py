"""Opening a file that should be a recording."""

from __future__ import annotations

from pathlib import Path

from clmer_streaming.errors import RecordingError
from clmer_streaming.xdf.format import MAGIC


def load_recording(path: Path) -> bytes:
    """Return the content of a file that begins as XDF does.

    Raises:
        RecordingError: The file is missing, cannot be read, is empty or is not XDF.
    """
    found = mend = ""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        found, mend = f"no file at {path}", "check the path"
    except IsADirectoryError:
        found, mend = f"the folder {path}", "name a file in it"
    except OSError as error:
        found, mend = f"{path}, which cannot be read: {error.strerror or error!r}", "check the file's permissions"
    else:
        if not data:
            found, mend = f"{path}, which is empty", "record the session again; nothing was written to this file"
        elif data[: len(MAGIC)] != MAGIC:
            found = f"{path}, which begins with {data[:4]!r}"
            mend = "name a file that LabRecorder or clmer wrote; unpack it first if it is compressed"
    if found:
        raise RecordingError(expected="an XDF recording (a file that begins with 'XDF:')", found=found, mend=mend)
    return data
