"""Two hosts on this machine: network namespaces joined by a cable that no multicast crosses; one has a headset."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support import lsl_outlet

FAR_ADDRESS = "10.213.0.2"
"""Of the host with the headset ``far``."""

_SETUP = """
set -e
unshare --net sleep 300 & far=$!
trap 'kill $far $outlet' EXIT
until [ "$(readlink /proc/$far/ns/net)" != "$(readlink /proc/$$/ns/net)" ]; do sleep 0.05; done
ip link add near type veth peer name far netns $far
ip addr add 10.213.0.1/24 dev near && ip link set near up && ip link set lo up
nsenter -t $far -n sh -c 'ip addr add 10.213.0.2/24 dev far && ip link set far up && ip link set lo up'
LSLAPICFG=alone.cfg nsenter -t $far -n "$PYTHON" "$OUTLET" '{"name": "far", "source_id": "F-1"}' > ready & outlet=$!
until grep -q ready ready; do kill -0 $outlet; sleep 0.05; done
"""
_QUIET = "[log]\nlevel = -2\n[multicast]\nResolveScope = machine\n[lab]\n"


def on_the_near_host(folder: Path, script: str, timeout_s: float) -> str:
    """Run a shell script on the host without the headset; return what it printed.

    Args:
        folder: Where it runs; gets two settings for liblsl: ``peer.cfg`` knows the other host, ``alone.cfg`` does not.
        script: May use ``$PYTHON``, and the device ``near``, which is its end of the cable.
        timeout_s: Seconds that it may take.
    """
    (folder / "alone.cfg").write_text(_QUIET)
    (folder / "peer.cfg").write_text(f"{_QUIET}KnownPeers = {{{FAR_ADDRESS}}}\n")
    outlet = str(Path(lsl_outlet.__file__).resolve())
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), PYTHON=sys.executable, OUTLET=outlet)
    command = ["unshare", "--net", "sh", "-c", _SETUP + script]
    done = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=timeout_s
    )
    return done.stdout
