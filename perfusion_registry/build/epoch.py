"""The epoch of the trainer, a part of every build key; known without torch."""

TRAINER_EPOCH = 2
"""Raised whenever a change to `build` changes the bytes that the same recipe is built into."""
