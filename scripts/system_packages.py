"""Bring what CLMER needs from the operating system and pip cannot install.

As root on Debian or Ubuntu, missing packages are installed; everywhere else the line to type is printed. The exit
code is 1 if something is missing in the end. Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys

LIBRARIES = {
    "libGL.so.1": "libgl1",  # OpenCV's wheels are built with a display and leave these two to the system
    "libgthread-2.0.so.0": "libglib2.0-0",
}
"""Shared library -> the Debian package that holds it."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Any of these can show the dashboard to its tests."""


def loads(library: str) -> bool:
    """Tell whether the dynamic linker finds this shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_packages(browser: bool) -> list[str]:
    """Return the Debian packages that would bring what is not there.

    Args:
        browser: Whether a browser is wanted too.
    """
    packages = [package for library, package in LIBRARIES.items() if not loads(library)]
    if browser and not any(shutil.which(name) for name in BROWSERS):
        packages.append("chromium")
    return packages


def apt_install(packages: list[str]) -> None:
    """Install Debian packages without a question; what fails shows in the next look."""
    apt = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in ((*apt, "update"), (*apt, "install", "-y", "--no-install-recommends", *packages)):
        subprocess.run(command, env=quiet, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)


def main() -> int:
    """Look, install if that is possible, look again and say what is still missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--browser", action="store_true", help="also Chromium, for the dashboard's tests")
    args = parser.parse_args()
    if not sys.platform.startswith("linux"):
        return 0
    missing = missing_packages(args.browser)
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing system packages:", *missing, flush=True)
        apt_install(missing)
        missing = missing_packages(args.browser)
    if missing:
        line = f"apt-get update && apt-get install -y {' '.join(missing)}"
        print(f"warning: system packages are missing; as root: {line}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
