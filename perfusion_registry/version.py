"""The version of the package; `perfusion_registry.__version__`."""

__version__ = "0.1.0"
