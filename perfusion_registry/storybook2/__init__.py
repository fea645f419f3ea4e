"""The second Storybook: a picture book of our own drawings, its captions, and the training of its base."""
