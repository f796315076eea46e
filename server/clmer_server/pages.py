"""The dashboard's files: our own page and scripts, and BokehJS out of the installed package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from fastapi import APIRouter, FastAPI, HTTPException
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

DASHBOARD = Path(__file__).parent / "dashboard"
"""Folder of the page, its scripts and styles."""


def bokeh_scripts() -> dict[str, Path]:
    """Return the minified BokehJS files of the installed ``bokeh`` by name, without importing it."""
    spec = importlib.util.find_spec("bokeh")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "server" / "static" / "js"
    return {path.name: path for path in sorted(folder.glob("*.min.js"))}


def add_pages(app: FastAPI) -> None:
    """Serve the dashboard at ``/``, its files below ``/static/`` and BokehJS below ``/bokeh/``."""
    router = APIRouter()
    scripts = bokeh_scripts()

    @router.get("/", include_in_schema=False)
    def index() -> FileResponse:
        return FileResponse(DASHBOARD / "index.html")

    @router.get("/bokeh/{name}", include_in_schema=False)
    def bokeh(name: str) -> FileResponse:
        if name not in scripts:
            raise HTTPException(status_code=404)
        return FileResponse(scripts[name], media_type="text/javascript")

    app.include_router(router)
    app.mount("/static", StaticFiles(directory=DASHBOARD), name="static")
