"""The pipelines of diffusers that draw with Stable Diffusion and SDXL; see `Base.pipelines`."""

from __future__ import annotations

STABLE_DIFFUSION = {
    "text": "diffusers:StableDiffusionPipeline",
    "image": "diffusers:StableDiffusionImg2ImgPipeline",
    "inpaint": "diffusers:StableDiffusionInpaintPipeline",
    "text controlnet": "diffusers:StableDiffusionControlNetPipeline",
    "image controlnet": "diffusers:StableDiffusionControlNetImg2ImgPipeline",
    "inpaint controlnet": "diffusers:StableDiffusionControlNetInpaintPipeline",
    "text adapter": "diffusers:StableDiffusionAdapterPipeline",
}

SDXL = {
    "text": "diffusers:StableDiffusionXLPipeline",
    "image": "diffusers:StableDiffusionXLImg2ImgPipeline",
    "inpaint": "diffusers:StableDiffusionXLInpaintPipeline",
    "text controlnet": "diffusers:StableDiffusionXLControlNetPipeline",
    "image controlnet": "diffusers:StableDiffusionXLControlNetImg2ImgPipeline",
    "inpaint controlnet": "diffusers:StableDiffusionXLControlNetInpaintPipeline",
    "text union": "diffusers:StableDiffusionXLControlNetUnionPipeline",
    "image union": "diffusers:StableDiffusionXLControlNetUnionImg2ImgPipeline",
    "inpaint union": "diffusers:StableDiffusionXLControlNetUnionInpaintPipeline",
    "text adapter": "diffusers:StableDiffusionXLAdapterPipeline",
}
