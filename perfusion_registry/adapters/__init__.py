"""Adapters: files that change a base's weights (LoRA and its kin) or its words (textual inversion).

Whatever tool wrote a file, it is read to one form: for each module of a component an `Adapter`, whose tensors
have LyCORIS' names. `read_adapters` reads, `difference` is the change of a weight, `artifact_tensors` and
`adapters_of` keep adapters in an artifact. Importing this needs no torch.

    dialect      a module's name, before the names of its tensors
    kohya        lora_unet_down_blocks_0_attentions_0_... (SDXL: lora_unet_input_blocks_4_1_...), lora_te1_...
    LyCORIS      the same, with hada_*, lokr_*, dora_scale, diff; lycoris_...
    OneTrainer   the same with diffusers' names of SDXL, and bundle_emb.WORD.clip_l beside them
    PEFT         base_model.model.down_blocks.0...., lora_A and lora_B, alpha in adapter_config.json
    diffusers    unet.down_blocks.0...., text_encoder....; older: ....processor.to_q_lora.down
    ComfyUI      diffusion_model.input_blocks.1.1...., text_encoders.clip_l.transformer....
"""
