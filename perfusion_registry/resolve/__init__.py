"""Resolution: a project and its recipes become a plan and a lockfile. Imports without torch."""

from perfusion_registry.recipe.patterns import find_files
from perfusion_registry.resolve.base import BaseFacts
from perfusion_registry.resolve.covariance import CovarianceFile, check_encoder, find_covariance
from perfusion_registry.resolve.images import SourceImage, find_images
from perfusion_registry.resolve.locking import changed_lines, changes_of, differences, lock
from perfusion_registry.resolve.planning import BuildTask, Plan, plan
from perfusion_registry.resolve.project import ProjectFolder

__all__ = [
    "BaseFacts",
    "BuildTask",
    "CovarianceFile",
    "Plan",
    "ProjectFolder",
    "SourceImage",
    "changed_lines",
    "changes_of",
    "check_encoder",
    "differences",
    "find_covariance",
    "find_files",
    "find_images",
    "lock",
    "plan",
]
