"""Personalised residuals (Ham et al., CVPR 2024): low-rank additions to the denoiser's blocks."""
