"""Writes tests/data/from_diffusers.json: the Python side of docs/from-diffusers.md, line by line.

    python3 make_from_diffusers.py [OUTPUT.json]

Every block of Python on that page is a stretch of this file, and what it computes is written down
with its inputs; docs/snippets/from_diffusers.hpp is the C++ side, compared with it by
tests/test_from_diffusers.cpp. Needs torch and diffusers. Tensors are written flat, in row-major
order, float32 unless their name says otherwise.
"""

import json
import sys
from pathlib import Path

import diffusers
import numpy
import torch
from diffusers import DDIMScheduler, DDPMScheduler

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "examples" / "models" / "digits-and-clothing"


def flat(tensor):
    return [float(value) for value in torch.as_tensor(tensor).flatten().tolist()]


# The network of this page: any function of a state and a timestep will do.
def network(x, t):
    return torch.tanh(x) * (0.5 + t / 2000)


# The same with a condition, a number for each sample.
def conditional_network(x, t, c):
    return torch.tanh(x + c.view(-1, 1, 1, 1)) * (0.5 + t / 2000)


def configuration():
    scheduler = DDIMScheduler.from_pretrained(MODEL / "scheduler")

    as_ddpm = DDPMScheduler.from_config(scheduler.config)
    return {"ddim_clips": scheduler.config.clip_sample, "ddpm_variance": as_ddpm.config.variance_type}


def by_hand():
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear",
                              beta_start=0.00085, beta_end=0.012, clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1)
    scheduler.set_timesteps(5)

    timesteps = scheduler.timesteps
    alpha_cumprod = scheduler.alphas_cumprod[timesteps]
    noise_scale = scheduler.init_noise_sigma
    return {"timesteps": flat(timesteps), "alphas_cumprod": flat(alpha_cumprod),
            "init_noise_sigma": float(noise_scale)}


def forward():
    scheduler = DDIMScheduler.from_pretrained(MODEL / "scheduler")
    x0 = torch.linspace(-1, 1, 12).reshape(3, 1, 2, 2)
    noise = torch.randn((3, 1, 2, 2), generator=torch.Generator().manual_seed(1))

    timesteps = torch.tensor([10, 500, 999])
    noisy = scheduler.add_noise(x0, noise, timesteps)
    velocity = scheduler.get_velocity(x0, noise, timesteps)
    return {"x0": flat(x0), "noise": flat(noise), "timesteps": flat(timesteps),
            "noisy": flat(noisy), "velocity": flat(velocity)}


def one_step():
    scheduler = DDIMScheduler.from_pretrained(MODEL / "scheduler")
    scheduler.set_timesteps(4)
    x = torch.randn((2, 1, 2, 3), generator=torch.Generator().manual_seed(2))
    start = x

    t = scheduler.timesteps[0]
    model_input = scheduler.scale_model_input(x, t)
    result = scheduler.step(network(model_input, t), t, x)
    preview = result.pred_original_sample
    x = result.prev_sample
    return {"start": flat(start), "t": float(t), "model_input": flat(model_input),
            "pred_original_sample": flat(preview), "prev_sample": flat(x)}


def whole_loop(steps, eta, seed):
    scheduler = DDIMScheduler.from_pretrained(MODEL / "scheduler")
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    x = torch.randn((2, 1, 2, 3), generator=generator) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(output, t, x, eta=eta, generator=generator).prev_sample
    return {"steps": steps, "eta": eta, "seed": seed, "sample": flat(x)}


def ancestral_loop(steps, seed):
    scheduler = DDPMScheduler.from_config(DDIMScheduler.load_config(MODEL / "scheduler"))
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    x = torch.randn((2, 1, 2, 3), generator=generator)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x, generator=generator).prev_sample
    return {"steps": steps, "seed": seed, "sample": flat(x)}


def guided_loop(steps, guidance_scale, seed):
    scheduler = DDIMScheduler.from_pretrained(MODEL / "scheduler")
    generator = torch.Generator().manual_seed(seed)
    condition, null = torch.tensor([0.5, -1.0]), torch.tensor([0.0, 0.0])
    scheduler.set_timesteps(steps)
    x = torch.randn((2, 1, 2, 3), generator=generator)
    for t in scheduler.timesteps:
        both = conditional_network(torch.cat([x, x]), t, torch.cat([null, condition]))
        without, conditioned = both.chunk(2)
        output = without + guidance_scale * (conditioned - without)
        x = scheduler.step(output, t, x).prev_sample
    return {"steps": steps, "guidance_scale": guidance_scale, "seed": seed, "sample": flat(x)}


def image_to_image(steps, strength, seed):
    scheduler = DDIMScheduler.from_pretrained(MODEL / "scheduler")
    picture = torch.linspace(-1, 1, 12).reshape(2, 1, 2, 3)
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    begin = steps - min(int(steps * strength), steps)
    timesteps = scheduler.timesteps[begin:]
    noise = torch.randn(picture.shape, generator=generator)
    x = scheduler.add_noise(picture, noise, timesteps[:1])
    for t in timesteps:
        x = scheduler.step(network(x, t), t, x).prev_sample
    return {"steps": steps, "strength": strength, "seed": seed, "picture": flat(picture),
            "begin": begin, "sample": flat(x)}


def defaults(steps, seed):
    """Where the defaults differ: linspace timesteps that n does not divide, and clipping."""
    generator = torch.Generator().manual_seed(seed)
    start = 1.5 * torch.randn((2, 1, 2, 3), generator=generator)
    x = start
    scheduler = DDIMScheduler(timestep_spacing="linspace", clip_sample=True)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(network(x, t), t, x).prev_sample
    return {"steps": steps, "start": flat(start), "sample": flat(x)}


def learned_variance(steps, seed):
    generator = torch.Generator().manual_seed(seed)
    scheduler = DDPMScheduler(variance_type="learned_range", clip_sample=False)
    scheduler.set_timesteps(steps)
    x = torch.randn((2, 1, 2, 3), generator=generator)
    for t in scheduler.timesteps:
        output = torch.cat([network(x, t), torch.tanh(x)], dim=1)
        x = scheduler.step(output, t, x, generator=generator).prev_sample
    return {"steps": steps, "seed": seed, "sample": flat(x)}


def main():
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/from_diffusers.json"
    torch.set_num_threads(1)
    document = {
        "source": f"diffusers {diffusers.__version__}, torch {torch.__version__} (CPU), "
                  f"numpy {numpy.__version__}",
        "configuration": configuration(),
        "by_hand": by_hand(),
        "forward": forward(),
        "one_step": one_step(),
        "whole_loop": [whole_loop(4, 0.0, 3), whole_loop(10, 1.0, 4), whole_loop(50, 0.5, 5)],
        "ancestral_loop": ancestral_loop(10, 6),
        "guided_loop": guided_loop(10, 3.0, 7),
        "image_to_image": image_to_image(10, 0.6, 8),
        "defaults": defaults(7, 9),
        "learned_variance": learned_variance(10, 10),
    }
    rows = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    file.write_text("{" + rows + "}\n")


if __name__ == "__main__":
    main()
