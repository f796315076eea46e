"""A headset on another host, and the cable between: pulled out, plugged in again, and what the source made of it.

Run as a program in a network namespace of its own: ``python lsl_link.py SECONDS``, with the outlet's program in
another namespace that is joined to this one by the device ``near``. Prints what happened as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading

from tests.support.lsl_faults import missing, watched_headset


def main(seconds: float) -> None:
    """Pull the cable out for some seconds, and until the stream is lost."""
    with watched_headset("far") as watched:
        watched.until_valid()
        before = watched.numbers.size
        subprocess.run(["ip", "link", "set", "near", "down"], check=True)
        threading.Event().wait(seconds)
        watched.until_state("lost")
        subprocess.run(["ip", "link", "set", "near", "up"], check=True)
        watched.until(lambda: watched.numbers.size > before + 128 * seconds or watched.gaps)
        watched.until_state("live")
        watched.until_valid(3)
    said = [reason for _, _, reason in watched.said if reason]
    outcome = {
        "states": watched.lasting_states,
        "said": list(dict.fromkeys(said)),
        "gaps": [gap.reason for gap in watched.gaps],
        "missing": missing(watched.numbers),
        "n_lost": watched.status.n_lost,
        "replays": watched.replays_equal(),
    }
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(float(sys.argv[1]))
