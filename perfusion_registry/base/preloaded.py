"""What every process that works with a base imports, for worker pools to import once; it takes seconds."""

# ruff: noqa: F401 (imported to be there)

import gc
import threading

from tqdm import tqdm

from perfusion_registry.base.pretrained import quiet

_collecting = gc.isenabled()
gc.disable()  # a fifth of the imports was looking for circles in what is imported
with quiet():
    import diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion
    import transformers.models.clip.modeling_clip
    import transformers.models.clip.processing_clip
    import transformers.models.clipseg.modeling_clipseg
if _collecting:
    gc.enable()
gc.freeze()  # nor do the workers look there, so that they share this memory for longer

# A pipeline's bar, though it is never shown, would make semaphores for other processes to wait for. A worker
# that is ended leaves these behind, of which Python warns.
tqdm.set_lock(threading.RLock())
