"""Makes the Python side of "same seed, same picture": pictures that sample-images must repeat.

    python3 make_reference_pictures.py                      all cases, into tests/data/pictures
    python3 make_reference_pictures.py --student            those of the distilled network, into
                                                            tests/data/lcm-pictures
    python3 make_reference_pictures.py --output FOLDER --seed 3 --class 7 --guidance 2    one case

The start is torch.randn of one CPU generator, which also gives the scheduler its noise; the
network runs in float32 on the CPU; guidance is u + g (c - u), the last class being "no class"; a
learned variance is that of the conditional prediction. A file holds float32 [count, channels,
height, width], in the network's range, unclamped, unrounded. With all cases comes cases.json: for
each file the options of sample-images that make the same pictures, and the largest allowed
difference. Needs torch and diffusers.
"""

import argparse
import json
from pathlib import Path

import numpy
import torch
from diffusers import DDIMScheduler, DDPMScheduler, LCMScheduler, UNet2DModel

ROOT = Path(__file__).resolve().parents[2]
SCHEDULERS = {"ddim": DDIMScheduler, "ddpm": DDPMScheduler, "lcm": LCMScheduler}
DEFAULT = {"sampler": "ddim", "steps": 50, "class": 0, "count": 1, "seed": 0, "guidance": 1.0,
           "eta": 0.0}
CASES = [
    {"class": 3, "count": 2, "seed": 0},
    {"class": 7, "count": 2, "seed": 1, "guidance": 2.0},
    {"class": 14, "count": 3, "seed": 42, "guidance": 2.0},
    {"class": 20, "count": 2, "seed": 5},  # the null class itself
    {"class": 18, "count": 1, "seed": 2**32 + 5, "guidance": 3.0},  # the generator keeps 32 bits
    {"class": 9, "count": 2, "seed": 3, "guidance": 2.0, "eta": 1.0},
    {"class": 11, "count": 2, "seed": 4, "steps": 20, "eta": 0.5},
    {"class": 2, "count": 2, "seed": 9, "guidance": 2.0, "sampler": "ddpm"},
    {"class": 5, "count": 1, "seed": 7, "sampler": "ddpm", "steps": 1000},
    {"class": 16, "count": 1, "seed": 8, "eta": 1.0, "steps": 1000},
]
STUDENT_CASES = [
    {"class": 3, "count": 1, "seed": 0, "sampler": "lcm", "steps": 4},
    {"class": 7, "count": 1, "seed": 2, "sampler": "lcm", "steps": 1},
    {"class": 18, "count": 2, "seed": 1, "sampler": "lcm", "steps": 8},
    {"class": 15, "count": 3, "seed": 3, "sampler": "lcm", "steps": 3},
]


def load_model(folder):
    """The network in float32 and the configuration of the folder's scheduler."""
    network = UNet2DModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False).float().eval()
    return network, DDIMScheduler.load_config(folder / "scheduler")


@torch.no_grad()
def make_pictures(network, scheduler_config, case):
    config = network.config
    scheduler = SCHEDULERS[case["sampler"]].from_config(scheduler_config)
    scheduler.set_timesteps(case["steps"])
    size = config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = (case["count"], config.in_channels, height, width)
    generator = torch.Generator().manual_seed(case["seed"])
    x = torch.randn(shape, generator=generator)

    label = null = None
    if config.num_class_embeds is not None:
        label = torch.full((case["count"],), case["class"])
        null = torch.full((case["count"],), config.num_class_embeds - 1)
    elif case["guidance"] != 1:
        raise ValueError(f"guidance is {case['guidance']}, but the network has no classes: use 1")

    step_options = {"eta": case["eta"]} if case["sampler"] == "ddim" else {}
    for t in scheduler.timesteps:
        answer = network(x, t, class_labels=label).sample
        if case["guidance"] != 1:
            # Channels beyond those of x hold a learned variance, which is not guided.
            conditional = answer[:, :config.in_channels]
            unconditional = network(x, t, class_labels=null).sample[:, :config.in_channels]
            guided = unconditional + case["guidance"] * (conditional - unconditional)
            answer = torch.cat([guided, answer[:, config.in_channels:]], dim=1)
        x = scheduler.step(answer, t, x, generator=generator, **step_options).prev_sample
    return x.numpy()


def file_name(case):
    parts = [f"{case['sampler']}-{case['steps']}", f"class-{case['class']}", f"seed-{case['seed']}"]
    if case["guidance"] != 1:
        parts.append(f"guidance-{case['guidance']:g}")
    if case["eta"] != 0:
        parts.append(f"eta-{case['eta']:g}")
    return "_".join(parts) + ".npy"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--student", action="store_true", help="the bundled distilled model and its cases")
    add("--model", type=Path, help="diffusers folder (default: the bundled model)")
    add("--output", type=Path, help="folder of the files (default: tests/data/pictures)")
    add("--sampler", choices=SCHEDULERS, help="default: ddim")
    add("--steps", type=int, help="default: 50")
    add("--class", type=int, help="default: 0")
    add("--count", type=int, help="default: 1")
    add("--seed", type=int, help="default: 0")
    add("--guidance", type=float, help="default: 1, none")
    add("--eta", type=float, help="noise of DDIM (default: 0)")
    options = vars(parser.parse_args())
    given = {name: options[name] for name in DEFAULT if options[name] is not None}
    student = options["student"]
    model = "digits-and-clothing-lcm" if student else "digits-and-clothing"
    model = options["model"] or ROOT / "examples" / "models" / model
    output = options["output"] or ROOT / "tests" / "data" / (
        "lcm-pictures" if student else "pictures")
    return model, output, [given] if given else STUDENT_CASES if student else CASES, not given


def main():
    model, output, cases, complete = parse_arguments()
    network, scheduler_config = load_model(model)
    output.mkdir(parents=True, exist_ok=True)
    listed = []
    for number, case in enumerate(cases, 1):
        case = {**DEFAULT, **case}
        name = file_name(case)
        numpy.save(output / name, make_pictures(network, scheduler_config, case))
        tolerance = 1e-2 if case["steps"] >= 1000 else 1e-3
        listed.append({"file": name, **case, "tolerance": tolerance})
        print(f"{number} of {len(cases)}: {output / name}", flush=True)
    if complete:
        (output / "cases.json").write_text(json.dumps({"cases": listed}, indent=1) + "\n")


if __name__ == "__main__":
    main()
