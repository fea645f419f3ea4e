"""What every process that works with a base imports, for worker pools to import once; it takes seconds."""

from perfusion_registry.base.pretrained import quiet

with quiet():
    import transformers.models.clip.modeling_clip
    import transformers.models.clip.processing_clip
    import transformers.models.clipseg.modeling_clipseg  # noqa: F401
