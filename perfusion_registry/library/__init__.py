"""The package as a library: what `perfusion_registry` itself exports, and no logic of its own."""
