"""perf: a declarative package manager for personalised text-to-image concepts."""

__version__ = "0.1.0"
