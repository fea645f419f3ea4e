"""How the embedded base is made: drawings, autoencoder, text encoder and denoiser, CLIP, recogniser."""
