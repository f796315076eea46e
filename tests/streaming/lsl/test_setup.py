"""Claims about the settings of liblsl, which it reads once in a process: hence a process for each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clmer_streaming.errors import SettingsError
from clmer_streaming.lsl.setup import USER_VARIABLE, set_up_lsl
from tests.support.paths import ROOT
from tests.support.two_hosts import on_the_near_host

_CHILD = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from clmer_streaming.lsl.setup import set_up_lsl
set_up_lsl(Path(sys.argv[1]) if sys.argv[1:] else None)
import pylsl
outlet = pylsl.StreamOutlet(pylsl.StreamInfo("x", "EEG", 1, 1.0, "float32", "x"))
print(outlet.get_info().session_id())
"""
_FILE = "; of this lab\n[lab]\nSessionID = {name}\n\n[log]\nlevel = -2\n"


def session_of(folder: Path, *options: Path, **variables: str) -> tuple[str, str]:
    """Return the LSL session that a process in ``folder`` is in, and what it wrote to stderr."""
    environment = {name: value for name, value in os.environ.items() if name != USER_VARIABLE}
    environment.update(HOME=str(folder), PYTHONPATH=os.pathsep.join(sys.path), **variables)
    command = [sys.executable, "-c", _CHILD, *map(str, options)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip(), done.stderr


def config(folder: Path, name: str) -> Path:
    """Write a file that puts a process into the session of this name."""
    folder.mkdir(exist_ok=True)
    path = folder / "lsl_api.cfg"
    path.write_text(_FILE.format(name=name))
    return path


def test_a_given_file_holds_over_all_others(tmp_path: Path) -> None:
    """Over the file in the working directory, and over the one that the environment names."""
    given = config(tmp_path / "given", "given")
    other = config(tmp_path, "here")
    assert session_of(tmp_path, given.relative_to(tmp_path), LSLAPICFG=str(other)) == ("given", "")


@pytest.mark.parametrize("place", [".", "lsl_api"])
def test_the_users_own_file_holds_where_none_is_given(tmp_path: Path, place: str) -> None:
    """In the working directory or at home: making liblsl silent must not hide it."""
    config(tmp_path / place, "own")
    assert session_of(tmp_path) == ("own", "")


def test_without_any_file_liblsl_keeps_its_defaults_silently(tmp_path: Path) -> None:
    """By default it would write lines about itself to stderr."""
    assert session_of(tmp_path) == ("default", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[lab]\nSessionID mine\n", "line 2: 'SessionID mine'"),
        ("# a remark\n", "line 1: '# a remark'"),
        ("[lab\n", "line 1: '[lab'"),
        ("[multicast]\nResolveScope = machina\n", "the scopes are machine"),
    ],
)
def test_a_file_that_liblsl_would_drop_is_refused(tmp_path: Path, text: str, found: str) -> None:
    """It would go on with its defaults, and the streams of this lab would never be found."""
    path = tmp_path / "lsl_api.cfg"
    path.write_text(text)
    with pytest.raises(SettingsError, match=re.escape(found)):
        set_up_lsl(path)
    path.write_text(_FILE.format(name="mine") + text)
    assert session_of(tmp_path)[0] == "default", "liblsl takes it after all"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, content: bytes | None) -> None:
    """Missing, or no text: the path stands in the message."""
    path = tmp_path / "lsl_api.cfg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"lsl_api\.cfg"):
        set_up_lsl(path)


def test_every_example_of_the_documentation_is_one_that_liblsl_takes(tmp_path: Path) -> None:
    """Each block, with the name of a session behind it, puts a process into that session."""
    page = (ROOT / "docs" / "finding-streams.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 4
    paths = [tmp_path / f"lsl_api-{i}.cfg" for i in range(len(blocks))]
    for i, (path, block) in enumerate(zip(paths, blocks, strict=True)):
        path.write_text(
            block.replace("SessionID = room-2\n", "") + f"[lab]\nSessionID = block-{i}\n[log]\nlevel = -2\n"
        )
    with ThreadPoolExecutor() as threads:
        sessions = list(threads.map(lambda path: session_of(tmp_path, path)[0], paths))
    assert sessions == [f"block-{i}" for i in range(len(blocks))]


_STREAMS = """
for config in alone.cfg peer.cfg; do
    "$PYTHON" -c "import sys; from clmer_server.cli import main; sys.exit(main())" \\
        streams --json --lsl-config $config > $config.json & looks="$looks $!"
done
for look in $looks; do wait $look || true; done
"""


@pytest.mark.lsl
@pytest.mark.netns
@pytest.mark.slow
def test_a_headset_on_another_host_is_found_by_its_address_alone(tmp_path: Path) -> None:
    """No multicast crosses: without KnownPeers nothing is found, with it the stream is there and can be read."""
    on_the_near_host(tmp_path, _STREAMS, 60)
    assert json.loads((tmp_path / "alone.cfg.json").read_text()) == {"streams": []}
    (stream,) = json.loads((tmp_path / "peer.cfg.json").read_text())["streams"]
    assert (stream["name"], stream["eeg"]["usable"], stream["rate_hz"] > 100) == ("far", True, True)
