"""Writes the test data of tests/test_unet2d.cpp: small UNet2DModels with random weights, and what
diffusers says they answer.

    python3 make_unet_reference.py OUTPUT_FOLDER

Needs torch, diffusers and safetensors. One folder a case: config.json and
diffusion_pytorch_model.safetensors as diffusers saves them, and reference.safetensors with
    x              [6, channels, height, width], float32
    t              [3], float64
    labels         [6], float32, where the network has classes
    class_vectors  [6, time_embedding_dim], float32, where class_embed_type is "identity"
    out            [3, 6, channels, height, width], float32: the answers at each t
The six samples went through the network as batches of 1, 2 and 3.
"""

import math
import pathlib
import sys

import safetensors.torch
import torch
from diffusers import UNet2DModel

BATCHES = [slice(0, 1), slice(1, 3), slice(3, 6)]

SMALL = dict(in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=4)

# name: (config, (height, width), type of the saved weights, timesteps)
CASES = {
    "class_conditional": (
        dict(SMALL, sample_size=12, block_out_channels=(8, 16, 16), attention_head_dim=8,
             down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
             num_class_embeds=21),
        (12, 12), torch.float16, [999, 480, 0]),
    "attention_heads": (
        dict(SMALL, block_out_channels=(8, 16, 12), attention_head_dim=4,
             down_block_types=("AttnDownBlock2D",) * 3, up_block_types=("AttnUpBlock2D",) * 3),
        (8, 12), torch.float16, [981, 501, 21]),
    "attention_narrow": (  # 20 // 8 heads of 8: narrower inside than outside
        dict(SMALL, block_out_channels=(12, 20), attention_head_dim=8,
             down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "AttnUpBlock2D")),
        (10, 6), torch.float16, [750, 250, 3]),
    "attention_whole": (
        dict(SMALL, block_out_channels=(8, 16), attention_head_dim=None, attn_norm_num_groups=8,
             down_block_types=("DownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "UpBlock2D")),
        (18, 16), torch.float16, [999, 500, 1]),
    "four_levels": (
        dict(sample_size=(16, 8), in_channels=2, out_channels=3, layers_per_block=2,
             norm_num_groups=2, norm_eps=1e-6, block_out_channels=(4, 8, 8, 12),
             downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, attention_head_dim=None,
             down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D")),
        (16, 8), torch.float16, [999, 333, 42]),
    "scale_shift": (
        dict(in_channels=3, out_channels=3, layers_per_block=1, norm_num_groups=4,
             center_input_sample=True, block_out_channels=(8, 16), attention_head_dim=8,
             resnet_time_scale_shift="scale_shift", mid_block_scale_factor=math.sqrt(2.0),
             down_block_types=("DownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "UpBlock2D")),
        (8, 8), torch.float16, [900, 450, 10]),
    "resnet_resampling": (
        dict(SMALL, block_out_channels=(8, 8, 12), attention_head_dim=4, act_fn="mish",
             downsample_type="resnet", upsample_type="resnet",
             down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "DownBlock2D"),
             up_block_types=("ResnetUpsampleBlock2D", "AttnUpBlock2D", "UpBlock2D")),
        (8, 8), torch.float16, [999, 600, 20]),
    "fourier_skip": (
        dict(in_channels=3, out_channels=3, layers_per_block=1, norm_num_groups=8,
             time_embedding_type="fourier", block_out_channels=(8, 8, 16), attention_head_dim=8,
             down_block_types=("SkipDownBlock2D",) * 3, up_block_types=("SkipUpBlock2D",) * 3),
        (8, 12), torch.float16, [0.0125, 1.5, 80.0]),
    "attention_skip": (
        dict(in_channels=3, out_channels=3, layers_per_block=1, norm_num_groups=None,
             block_out_channels=(32,), attention_head_dim=16, time_embedding_dim=16,
             mid_block_type=None, down_block_types=("AttnSkipDownBlock2D",),
             up_block_types=("AttnSkipUpBlock2D",)),
        (5, 3), torch.float16, [999, 500, 1]),
    "class_timestep": (
        dict(SMALL, block_out_channels=(8, 12), add_attention=False, act_fn="relu",
             class_embed_type="timestep", down_block_types=("DownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "UpBlock2D")),
        (6, 6), torch.bfloat16, [999, 500, 1]),
    "class_identity": (
        dict(SMALL, block_out_channels=(8,), class_embed_type="identity", act_fn="gelu",
             down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
             time_embedding_dim=12),
        (7, 9), torch.float64, [999, 500, 1]),
    "learned_time": (
        dict(SMALL, block_out_channels=(9, 6), norm_num_groups=3, mid_block_type=None,
             time_embedding_type="learned", num_train_timesteps=20, act_fn="Swish",
             down_block_types=("DownBlock2D", "DownBlock2D"),
             up_block_types=("UpBlock2D", "UpBlock2D")),
        (6, 2), torch.float32, [19, 7, 0]),
    "old_names": (
        dict(SMALL, block_out_channels=(6, 8), norm_num_groups=2, attention_head_dim=4,
             down_block_types=("DownBlock2D", "AttnDownBlock2D"),
             up_block_types=("AttnUpBlock2D", "UpBlock2D")),
        (4, 4), torch.float16, [999, 500, 1]),
}

OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def perturb(model):
    """Norms start as the identity and biases as small: make every parameter matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += 0.3 * torch.randn(parameter.shape)
            elif name.endswith("bias"):
                parameter += 0.1 * torch.randn(parameter.shape)
    # Attention that is nearly uniform would hide a mistake in its scores.
    for name, parameter in model.named_parameters():
        if "to_q" in name or "to_k" in name:
            parameter.data *= 2.0


def save(folder, model, dtype, rename):
    model.save_config(folder)
    weights = {}
    for name, value in model.state_dict().items():
        for new, old in OLD_NAMES.items() if rename else ():
            name = name.replace(f"{new}.", f"{old}.")
        weights[name] = value.to(dtype).contiguous()
    safetensors.torch.save_file(weights, folder / "diffusion_pytorch_model.safetensors",
                                metadata={"format": "pt"})


def classes(config, embedding_dim):
    if config.get("class_embed_type") == "identity":
        return {"class_vectors": torch.randn(6, embedding_dim)}
    if config.get("num_class_embeds"):
        return {"labels": torch.tensor([0, 20, 7, 7, 13, 1])}
    if config.get("class_embed_type") == "timestep":
        return {"labels": torch.tensor([0, 900, 7, 7, 13, 1])}
    return {}


def make_case(folder, config, size, dtype, times):
    folder.mkdir(parents=True, exist_ok=True)
    model = UNet2DModel(**config).eval()
    perturb(model)
    # The answers are float32's, of the weights that the file holds.
    model = model.to(dtype).float()
    save(folder, model, dtype, folder.name == "old_names")

    x = torch.randn(6, config["in_channels"], *size)
    extra = classes(config, model.time_embedding.linear_2.out_features)
    answers = []
    with torch.no_grad():
        for t in times:
            parts = []
            for batch in BATCHES:
                given = {"class_labels": value[batch] for value in extra.values()}
                parts.append(model(x[batch], torch.tensor(t), **given).sample)
            answers.append(torch.cat(parts))
    tensors = {"x": x, "t": torch.tensor(times, dtype=torch.float64), "out": torch.stack(answers)}
    tensors.update({name: value.float() for name, value in extra.items()})
    # torch 1.13's baddbmm lets NaN through from memory that it was told to ignore.
    assert all(value.isfinite().all() for value in tensors.values()), folder
    safetensors.torch.save_file({name: value.contiguous() for name, value in tensors.items()},
                                folder / "reference.safetensors")
    print(f"{folder.name}: {sum(p.numel() for p in model.parameters())} parameters, answers of "
          f"standard deviation {tensors['out'].std():.3f}")


def main():
    output = pathlib.Path(sys.argv[1])
    for index, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(index)
        make_case(output / name, *case)


if __name__ == "__main__":
    main()
