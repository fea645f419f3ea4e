"""Storybook: the drawn world, the embedded base that learned it, and the scripts that train and measure
it."""
