"""A network camera: motion JPEG over HTTP on this machine, which can be unplugged, plugged in again, and hang."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from tests.support.face_pictures import Picture


class NetworkCamera:
    """Shows pictures again and again to everybody who asks.

    Args:
        pictures: What it shows.
        rate_hz: How many of them a second.

    Attributes:
        plugged: While set, it can be reached.
        working: While set, it goes on sending; cleared, it keeps the connection and is silent.
    """

    def __init__(self, pictures: Sequence[Picture], rate_hz: float) -> None:
        self.plugged, self.working = threading.Event(), threading.Event()
        self.plugged.set()
        self.working.set()
        self._jpegs = [cv2.imencode(".jpg", picture)[1].tobytes() for picture in pictures]
        self._period_s = 1 / rate_hz
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/camera.mjpg"

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(camera) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not camera.plugged.is_set():
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    for part in camera._parts():
                        self.wfile.write(part)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server calls it so
                pass

        return Handler

    def _parts(self) -> Iterator[bytes]:
        n = 0
        while self.plugged.is_set() and not self._closed.wait(self._period_s):
            if self.working.is_set():
                jpeg = self._jpegs[n % len(self._jpegs)]
                yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg) + jpeg + b"\r\n"
                n += 1


@contextlib.contextmanager
def network_camera(pictures: Sequence[Picture], rate_hz: float = 30.0) -> Iterator[NetworkCamera]:
    """Run a camera until the context ends."""
    camera = NetworkCamera(pictures, rate_hz)
    try:
        yield camera
    finally:
        camera.close()
