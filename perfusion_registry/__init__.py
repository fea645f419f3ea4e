"""perf: a declarative package manager for personalised text-to-image concepts.

As a library it has two entrances: `open` for a project, `composed` for a diffusers pipeline that is already
in a program. Every name is imported on first use.
"""

from __future__ import annotations

from perfusion_registry.lazy import lazy_exports
from perfusion_registry.version import __version__ as __version__

TYPE_CHECKING = False  # so that `perf --help` need not import typing
if TYPE_CHECKING:
    from perfusion_registry.compose.composition import Composition as Composition
    from perfusion_registry.compose.concept import Concept as Concept
    from perfusion_registry.errors import CheckFailedError as CheckFailedError
    from perfusion_registry.errors import PerfError as PerfError
    from perfusion_registry.library.composer import Composer as Composer
    from perfusion_registry.library.covariance import count_covariance_shard as count_covariance_shard
    from perfusion_registry.library.covariance import estimate_covariance as estimate_covariance
    from perfusion_registry.library.covariance import merge_covariance as merge_covariance
    from perfusion_registry.library.opening import create as create
    from perfusion_registry.library.opening import open as open
    from perfusion_registry.library.opening import sync_lockfile as sync_lockfile
    from perfusion_registry.library.picture import Picture as Picture
    from perfusion_registry.library.picture import read_record as read_record
    from perfusion_registry.library.picture import redraw as redraw
    from perfusion_registry.library.pipeline import composed as composed
    from perfusion_registry.library.pipeline import load_concepts as load_concepts
    from perfusion_registry.library.project import Project as Project
    from perfusion_registry.methods.perfusion.gate import Gate as Gate
    from perfusion_registry.operations.lock import StaleLockfileError as StaleLockfileError
    from perfusion_registry.progress import terminal_reporter as terminal_reporter
    from perfusion_registry.render.metadata import RenderRecord as RenderRecord
    from perfusion_registry.reporter import Reporter as Reporter

_HOME = {
    "CheckFailedError": "errors",
    "Composer": "library.composer",
    "Composition": "compose.composition",
    "Concept": "compose.concept",
    "Gate": "methods.perfusion.gate",
    "PerfError": "errors",
    "Picture": "library.picture",
    "Project": "library.project",
    "RenderRecord": "render.metadata",
    "Reporter": "reporter",
    "StaleLockfileError": "operations.lock",
    "composed": "library.pipeline",
    "create": "library.opening",
    "count_covariance_shard": "library.covariance",
    "estimate_covariance": "library.covariance",
    "merge_covariance": "library.covariance",
    "load_concepts": "library.pipeline",
    "open": "library.opening",
    "read_record": "library.picture",
    "redraw": "library.picture",
    "sync_lockfile": "library.opening",
    "terminal_reporter": "progress",
}

__all__ = sorted(_HOME)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_exports(__name__, _HOME, exported="library.arguments")
