"""How long to wait before another try."""

from __future__ import annotations

import random
from dataclasses import dataclass

LONGEST_RETRY_AFTER = 10.0
"""Seconds that a server's Retry-After is obeyed for at most."""


@dataclass(frozen=True)
class Backoff:
    """The seconds before another try. first: before the second one, at most. longest: before any, at most."""

    first: float = 0.3
    longest: float = LONGEST_RETRY_AFTER

    def wait(self, tries: int, asked: float = 0.0) -> float:
        """After so many tries: twice as long each time, and by chance, so that clients do not keep step.

        asked: the seconds that a server asks for.
        """
        usual = min(self.first * 2.0 ** (tries - 1), self.longest) * random.uniform(0.5, 1.0)
        return max(usual, min(asked, self.longest))


BACKOFF = Backoff()
"""For servers that are busy or out of reach."""

CONTENTION = Backoff(0.01, longest=0.5)
"""For a compare and swap that another process won."""
