"""What other tools call an option or a command, and how it is written here."""

from __future__ import annotations

import re
from typing import Any

_GUIDANCE = "--guidance G is the scale of classifier-free guidance"
_SIZE = "--size WxH is the picture's size: --size 512x512"
_COUNT = "--count N draws N seeds, from --seed on"
_NEGATIVE = "--negative TEXT says what the picture should not show"
_SCHEDULER = "--scheduler NAME is the sampler, by its diffusers name"
_PROMPTS = "--prompts FILE draws each line of a file, and - those of standard input"
_UPSCALE = "--upscale enlarges with the base's upscaler, if it has one"
_PROMPT = 'the prompt stands by itself: perf render "a teddy* in the snow"'
_WITH = "--with FILE draws with a concept's file; `perf add` declares a concept, which prompts call by NAME*"
_BASE = "the base stands in perfusion.toml, under [project]"
_IMAGE = "--image FILE draws from a picture, --strength S says how much of it is drawn anew"
_MASK = "--mask FILE, with --image, is white where it is drawn anew"
_CONTROL = "--control NAME=FILE reads a picture by the control of the base that perfusion.toml calls NAME"
_SCALE = "--control-strength S, or NAME=S, is what a control adds, times S"

OPTIONS = {
    **dict.fromkeys(
        ("--cfg", "--cfg-scale", "--cfg_scale", "--guidance-scale", "--guidance_scale"), _GUIDANCE
    ),
    **dict.fromkeys(("--scale", "-C", "-l"), _GUIDANCE),
    **dict.fromkeys(("--width", "--height", "-W", "-H", "--resolution"), _SIZE),
    **dict.fromkeys(("-n", "--num-images", "--num_images", "--n-samples", "--n_samples", "--n_iter"), _COUNT),
    **dict.fromkeys(("--num-images-per-prompt", "--num_images_per_prompt", "--images-per-prompt"), _COUNT),
    **dict.fromkeys(("--negative-prompt", "--negative_prompt", "--neg"), _NEGATIVE),
    **dict.fromkeys(("--sampler", "--sampler-name", "--sampler_name"), _SCHEDULER),
    **dict.fromkeys(("--prompt", "-p"), _PROMPT),
    **dict.fromkeys(("--from-file", "--from_file", "--prompt-file", "--prompts-from-file"), _PROMPTS),
    **dict.fromkeys(("--upscaler", "--hires-fix", "--enable-hr", "--hr-scale"), _UPSCALE),
    **dict.fromkeys(("--num-inference-steps", "--num_inference_steps", "--ddim-steps", "-s"), "--steps N"),
    **dict.fromkeys(("--lora", "--loras", "--embedding", "--embeddings", "--hypernetwork"), _WITH),
    **dict.fromkeys(("--init-image", "--init_image", "--init-img", "-I", "-i"), _IMAGE),
    **dict.fromkeys(("--denoising-strength", "--denoising_strength", "--denoise", "-f"), _IMAGE),
    **dict.fromkeys(("--mask-image", "--mask_image", "--init_mask", "-M"), _MASK),
    **dict.fromkeys(("--controlnet", "--control-net", "--control-image", "--control_image"), _CONTROL),
    **dict.fromkeys(("--controlnet-conditioning-scale", "--controlnet_conditioning_scale"), _SCALE),
    **dict.fromkeys(("--conditioning-scale", "--control-weight", "--control-scale"), _SCALE),
    **dict.fromkeys(("--outdir", "--output", "--output-dir", "-o"), "--out PATH is where the pictures go"),
    **dict.fromkeys(("--grid", "--preview"), "--sheet FILE lays the pictures out on one sheet"),
    **dict.fromkeys(("--model", "--checkpoint", "--ckpt", "-m"), _BASE),
}
"""Options of A1111, ComfyUI, diffusers' and sd-scripts' programs and InvokeAI, and how they are said here."""

COMMANDS = {
    **dict.fromkeys(("install", "i", "ci", "fetch"), "perf sync fetches what perfusion.lock names"),
    **dict.fromkeys(("uninstall", "rm", "un"), "perf remove NAME takes a concept out"),
    **dict.fromkeys(("update", "upgrade"), "perf lock --upgrade takes the newest versions"),
    **dict.fromkeys(("train", "learn", "compile"), "perf build trains what is new or changed"),
    **dict.fromkeys(("generate", "draw", "txt2img", "run"), 'perf render "a teddy* in the snow" draws'),
    **dict.fromkeys(("ls", "freeze"), "perf list shows the concepts"),
    **dict.fromkeys(("show", "view"), "perf info NAME shows what a concept says of itself"),
    **dict.fromkeys(("new", "create"), "perf init begins a project"),
    **dict.fromkeys(("check", "audit"), "perf verify checks lockfile, store and signatures"),
    **dict.fromkeys(("push", "upload"), "perf publish NAME puts a concept into a registry"),
    "outdated": "perf list --outdated",
}
"""Verbs of uv, pip, npm and cargo, and of programs that draw."""

_DRAWS = ("perf render", "perf sweep", "perf tune", "perf compose", "perf explain")


def synonym(error: Any, where: str) -> str | None:
    """How what was meant by an unknown option or command is written here; None where nobody can say.

    error: typer's. where: the command, such as `perf render`.
    """
    option = getattr(error, "option_name", None)
    if option is not None:
        meant = OPTIONS.get(option) if where in _DRAWS else None
        known = {name for parameter in error.ctx.command.params for name in parameter.opts}
        return meant if meant and known.issuperset(re.findall(r"--[a-z-]+", meant)) else None
    command = re.match(r"No such command '([^']*)'", error.format_message())
    return COMMANDS.get(command[1]) if command and where == "perf" else None
