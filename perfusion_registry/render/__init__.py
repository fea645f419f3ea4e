"""Drawing: the stock pipeline with packed encodings, image metadata, contact sheets, sweeps."""
