"""The evaluations' suite, for machines that measure it together."""

from tests.evaluate.conftest import smoke as smoke
