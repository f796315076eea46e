"""Tells systemd that the service is ready, or ends; where systemd did not start it, nothing is told.

The protocol is that of ``sd_notify(3)``: a datagram to the socket that ``NOTIFY_SOCKET`` names.
"""

from __future__ import annotations

import os
import socket

READY, STOPPING = "READY=1", "STOPPING=1"


def notify(state: str) -> bool:
    """Tell the service manager a state; return whether one listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return False
    path = "\0" + address[1:] if address.startswith("@") else address  # @ stands for the abstract name space
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(path)
            sender.sendall(state.encode())
    except OSError:
        return False  # a service must not fail because its manager does not listen
    return True
