"""How the second Storybook's networks are made: `python -m perfusion_registry.storybook2.training`."""
