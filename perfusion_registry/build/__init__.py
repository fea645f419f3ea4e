"""Building: captions -> covariance, images and masks -> a trained concept.

Import the names from their modules (`build.concept.build_concept`, `build.covariance.estimate_covariance`);
this package itself imports nothing heavy, so that the build plan can read `TRAINER_EPOCH` without torch.
"""

TRAINER_EPOCH = 1
"""Raised whenever a change to this package changes the bytes that the same recipe is built into."""
