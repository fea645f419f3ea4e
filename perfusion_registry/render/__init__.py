"""Drawing: the stock pipeline with packed encodings, picture records, contact sheets, sweeps.

Reading a picture's record needs no torch, so every name is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfusion_registry.lazy import lazy_exports

if TYPE_CHECKING:
    from perfusion_registry.render.draw import Rendered as Rendered
    from perfusion_registry.render.draw import native_values as native_values
    from perfusion_registry.render.draw import render as render
    from perfusion_registry.render.grid import sweep as sweep
    from perfusion_registry.render.grid import sweep_sheet as sweep_sheet
    from perfusion_registry.render.metadata import RenderRecord as RenderRecord
    from perfusion_registry.render.metadata import png_bytes as png_bytes
    from perfusion_registry.render.metadata import read_metadata as read_metadata
    from perfusion_registry.render.request import RenderRequest as RenderRequest
    from perfusion_registry.render.request import resolve_request as resolve_request
    from perfusion_registry.render.sheet import Reference as Reference
    from perfusion_registry.render.sheet import Tile as Tile
    from perfusion_registry.render.sheet import contact_sheet as contact_sheet

_HOME = {
    "Reference": "sheet",
    "RenderRecord": "metadata",
    "RenderRequest": "request",
    "Rendered": "draw",
    "Tile": "sheet",
    "contact_sheet": "sheet",
    "native_values": "draw",
    "png_bytes": "metadata",
    "read_metadata": "metadata",
    "render": "draw",
    "resolve_request": "request",
    "sweep": "grid",
    "sweep_sheet": "grid",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME)
