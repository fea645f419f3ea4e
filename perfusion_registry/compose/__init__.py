"""From a prompt to what the denoiser receives: grammar, composition, packed encodings, explanation."""
