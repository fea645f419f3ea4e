"""Concepts in repositories of the Hugging Face Hub: `hf://owner/name`. See `registry`."""
