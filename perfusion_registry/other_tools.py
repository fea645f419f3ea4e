"""What other tools call an option or a command, and how it is written here."""

from __future__ import annotations

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

DRAWING = {
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
"""Options of what draws: of A1111, ComfyUI, diffusers' and sd-scripts' programs and InvokeAI."""

_SUPER = "--super WORD is the plain word that it is a kind of: --super teddy"
_CALLED = "the name comes first, and prompts call it by a star: `perf add bunny ...`, then `a bunny* at sea`"
_PICTURES = '--images GLOB names its pictures: --images "photos/*.png"'
_SET = "--set KEY=VALUE writes any option of its training into its recipe"
_FACTS = "licence, authors and description stand in its recipe: `perf publish` asks for them, and writes them"
_STEPS = "--steps N is how many steps it is trained at most"

DECLARING = {
    **dict.fromkeys(("--class", "--class-name", "--class_name", "--category", "--supercategory"), _SUPER),
    **dict.fromkeys(("--class-prompt", "--class_prompt", "--class-tokens", "--class_tokens"), _SUPER),
    **dict.fromkeys(("--kind", "--type"), _SUPER),
    **dict.fromkeys(("--initializer-token", "--initializer_token", "--init-word", "--init_word"), _SUPER),
    **dict.fromkeys(("--token", "--trigger", "--trigger-word", "--name", "--concept"), _CALLED),
    **dict.fromkeys(("--instance-prompt", "--instance_prompt", "--placeholder-token"), _CALLED),
    **dict.fromkeys(("--placeholder_token", "--token-string", "--token_string"), _CALLED),
    **dict.fromkeys(("--image", "--pictures", "--photos", "--folder", "--dir", "--data", "-i"), _PICTURES),
    **dict.fromkeys(("--instance-data-dir", "--instance_data_dir", "--train-data-dir"), _PICTURES),
    **dict.fromkeys(("--train_data_dir", "--dataset", "--dataset-config", "--dataset_config"), _PICTURES),
    **dict.fromkeys(("--max-train-steps", "--max_train_steps", "--iterations"), _STEPS),
    **dict.fromkeys(("--epochs", "--num-train-epochs", "--num_train_epochs", "--max_train_epochs"), _STEPS),
    **dict.fromkeys(("--learning-rate", "--learning_rate", "--lr", "--batch-size", "--batch_size"), _SET),
    **dict.fromkeys(("--train-batch-size", "--train_batch_size", "--rank", "--network-dim"), _SET),
    **dict.fromkeys(
        ("--licence", "--license", "--author", "--authors", "--description", "--consent"), _FACTS
    ),
    **dict.fromkeys(("--network_dim", "--network-alpha", "--network_alpha", "--resolution"), _SET),
}
"""Options of what trains: of kohya's sd-scripts, diffusers' training scripts and OneTrainer."""

_RECIPE = "pictures, word and training stand in the concept's recipe, recipes/NAME.toml: `perf add` writes it"

TRAINING = dict.fromkeys((*DECLARING, "--steps", "--images", "--seed", "--set", "--method"), _RECIPE)
"""The same, of `perf build`, which reads them in recipes."""

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
    "help": "`perf --help` has the commands, and `perf COMMAND --help` tells of one",
    "version": "perf --version",
    "status": "perf list shows the concepts, and perf doctor looks at this machine and the project",
    "completion": "perf --install-completion",
    "config": "all settings stand in perfusion.toml; perf doctor says what they come to",
}
"""Verbs of uv, pip, npm and cargo, and of programs that draw."""


def told(option: str, command: str) -> str | None:
    """How an option of other tools is said to a command, such as `perf render`; None where nobody can say."""
    for commands, options in _OF:
        if command in commands and option in options:
            return options[option]
    return None


_OF = (
    (("perf render", "perf sweep", "perf tune", "perf compose", "perf explain"), DRAWING),
    (("perf add", "perf import"), DECLARING),
    (("perf build",), TRAINING),
)
