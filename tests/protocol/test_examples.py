"""The clients of the README, as they stand there, against the real service."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
from pathlib import Path

from playwright.sync_api import expect

from clmer_server.protocol.codes import PROTOCOL
from clmer_server.protocol.parts import EmotionEvent
from tests.support.chromium import WAIT_MS, headless_chromium
from tests.support.paths import ROOT
from tests.support.serving import Service

README = (ROOT / "README.md").read_text(encoding="utf-8")
CLIENTS = README.split("\n## Connect your experiment\n")[1].split("\n## ")[0]
ADDRESS = "127.0.0.1:8765"


def example(language: str, number: int = 0) -> str:
    """Return a client of the README."""
    return str(re.findall(rf"```{language}\n(.*?)```", CLIENTS, re.DOTALL)[number])


def first_lines(program: str, n: int) -> list[str]:
    """Run a program, and end it when it has printed n lines."""
    with subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            return [process.stdout.readline() for _ in range(n)]
        finally:
            process.kill()


def test_the_client_in_python_prints_estimates(service: Service) -> None:
    """A line for each prediction: what it is, or why there is none."""
    lines = first_lines(example("python").replace(ADDRESS, service.address), 12)
    assert all(re.fullmatch(r"[\d.]+ s (\w{4} valence [\d.]+|no estimate: [\w, ]+)\n", line) for line in lines)
    assert any("valence" in line for line in lines)


def test_the_client_in_python_marks(service: Service) -> None:
    """It hears its own marker."""
    (line,) = first_lines(example("python", 1).replace(ADDRESS, service.address), 1)
    assert re.fullmatch(r"marked at [\d.]+ s, within windows up to [\d.]+ s\n", line)


def test_the_page_in_a_browser_shows_estimates(service: Service, tmp_path: Path) -> None:
    """Served from this computer, as the README says."""
    (tmp_path / "index.html").write_text(example("html").replace(ADDRESS, service.address), encoding="utf-8")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as pages, headless_chromium() as browser:
        threading.Thread(target=pages.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://localhost:{pages.server_port}/")
        expect(page.locator("#out")).to_have_text(re.compile(r"\w{4}, confidence 0\.\d\d"), timeout=WAIT_MS)
        pages.shutdown()


def test_the_client_in_unity_reads_fields_that_there_are() -> None:
    """No Unity here: its fields, the type it waits for and its subprotocol are held against the models."""
    program = example("csharp")
    fields = re.findall(r"public (?:string|bool|float|double) ([\w, ]+);", program)
    names = {name.strip() for line in fields for name in line.split(",")}
    assert {"type", "label", "valid", "valence", "arousal", "t_end"} == names <= EmotionEvent.model_fields.keys()
    assert f'AddSubProtocol("{PROTOCOL}")' in program
    assert 'prediction.type == "prediction"' in program
