"""Trains the class-conditional network of the examples and saves it as a diffusers folder.

One UNet2DModel learns MNIST (classes 0-9) and Fashion-MNIST (classes 10-19) together. Class 20
means "no class": it replaces a tenth of the labels, so that one network serves both terms of
classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598). The loss is the plain mean square
error of the predicted noise (Ho, Jain and Abbeel 2020, arXiv:2006.11239, equation 14).

    sh get_data.sh data
    python3 train.py --data data
"""

import argparse
import json
import math
import signal
import sys
import time
from pathlib import Path

import diffusers
import torch
from diffusers import DDIMScheduler, UNet2DModel

import data_set

NULL_CLASS = data_set.CLASSES
TRAIN_TIMESTEPS = 1000


def parse_arguments():
    models = Path(__file__).resolve().parents[1] / "models"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="folder made by get_data.sh")
    add("--output", default=models / "digits-and-clothing", help="folder to save the model in")
    add("--minutes", type=float, default=4.5, help="training time, compilation not counted")
    add("--steps", type=int, default=0, help="stop after so many steps, 0 for no limit")
    add("--batch", type=int, default=512, help="pictures a step")
    add("--rate", type=float, default=1.5e-3, help="peak learning rate")
    add("--warm-up", type=int, default=500, help="steps of linear warm-up")
    add("--ema", type=float, default=0.9995, help="decay of the averaged weights")
    add("--drop", type=float, default=0.1, help="share of labels replaced by the null class")
    add("--seed", type=int, default=0, help="seed of weights, order, timesteps and noise")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    add("--no-compile", action="store_true", help="do not use torch.compile")
    return parser.parse_args()


def make_network():
    """Three levels (28, 14 and 7 pixels), attention where it is nearly free: at 7 pixels."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        attention_head_dim=32,
        norm_num_groups=8,
        num_class_embeds=data_set.CLASSES + 1,
    )


def make_scheduler():
    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="epsilon",
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def save(network, weights, folder):
    """Writes the folder that DDIMPipeline.from_pretrained reads, the weights in float16."""
    copy = UNet2DModel.from_config(network.config)
    copy.load_state_dict(weights)
    copy.half().save_pretrained(folder / "unet")
    make_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DDIMPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


class Batches:
    """Endless shuffled batches of a data set that lies on the device."""

    def __init__(self, pictures, labels, size):
        self.pictures, self.labels, self.size = pictures, labels, size
        self.order = torch.empty(0, dtype=torch.int64)
        self.start = 0

    def next(self):
        if self.start + self.size > len(self.order):
            self.order = torch.randperm(len(self.labels), device=self.labels.device)
            self.start = 0
        chosen = self.order[self.start:self.start + self.size]
        self.start += self.size
        return data_set.to_unit_range(self.pictures[chosen]), self.labels[chosen]


class Average:
    """Exponential moving average of the parameters, short at first: it soon forgets the start."""

    def __init__(self, network, decay):
        self.network, self.decay, self.steps = network, decay, 0
        self.parameters = list(network.parameters())
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self):
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_mul_(self.values, decay)
        torch._foreach_add_(self.values, self.parameters, alpha=1 - decay)
        self.steps += 1

    def state_dict(self):
        names = [name for name, _ in self.network.named_parameters()]
        return {name: value.cpu() for name, value in zip(names, self.values)}


def stratified_timesteps(count, device):
    """A timestep in each of count equal strata of 0..T-1: uniform, less variance in the loss."""
    position = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    return (position * TRAIN_TIMESTEPS).long().clamp_(max=TRAIN_TIMESTEPS - 1)


def rate_factor(step, warm_up, progress):
    """Linear warm-up, then half a cosine down to zero at the end of the run; progress in [0, 1]."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def clock(seconds):
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Trainer:
    def __init__(self, options):
        self.options = options
        self.device = torch.device(options.device)
        self.on_gpu = self.device.type == "cuda"
        pictures, labels = data_set.load(options.data, "train")
        self.batches = Batches(pictures.to(self.device), labels.to(self.device), options.batch)
        layout = torch.channels_last if self.on_gpu else torch.contiguous_format
        self.network = make_network().to(self.device, memory_format=layout)
        self.predict = self.network
        self.average = Average(self.network, options.ema)
        arguments = {"fused": True} if self.on_gpu else {}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=options.rate,
                                           betas=(0.9, 0.99), weight_decay=1e-4, **arguments)
        alphas_cumprod = make_scheduler().alphas_cumprod.to(self.device)
        self.alpha = alphas_cumprod.sqrt().view(-1, 1, 1, 1)
        self.sigma = (1 - alphas_cumprod).sqrt().view(-1, 1, 1, 1)
        if self.on_gpu:
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True

    def loss(self):
        x0, labels = self.batches.next()
        timesteps = stratified_timesteps(len(x0), self.device)
        dropped = torch.rand(len(x0), device=self.device) < self.options.drop
        labels = torch.where(dropped, torch.full_like(labels, NULL_CLASS), labels)
        noise = torch.randn_like(x0)
        noisy = self.alpha[timesteps] * x0 + self.sigma[timesteps] * noise
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.on_gpu):
            predicted = self.predict(noisy, timesteps, class_labels=labels, return_dict=False)[0]
        return (predicted.float() - noise).square().mean()

    def compile(self):
        """Compiles the network; where that fails the run goes on without it."""
        start = time.perf_counter()
        self.predict = torch.compile(self.network, mode="reduce-overhead")
        try:
            for _ in range(3):
                torch.compiler.cudagraph_mark_step_begin()
                self.loss().backward()
                self.optimizer.zero_grad()
            torch.cuda.synchronize()
            print(f"compiled in {time.perf_counter() - start:.0f} s", flush=True)
        except Exception as error:  # any failure of the compiler has the same remedy
            print(f"torch.compile failed, going on without it: {error}", file=sys.stderr)
            self.predict = self.network
            self.optimizer.zero_grad()

    def step(self, rate):
        if self.predict is not self.network:
            torch.compiler.cudagraph_mark_step_begin()
        loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()
        return loss.detach()

    def save(self):
        save(self.network, self.average.state_dict(), Path(self.options.output))

    def run(self):
        options = self.options
        stopped = []
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stopped.append(True))
        if self.on_gpu and not options.no_compile:
            self.compile()
        budget = 60 * options.minutes
        start = shown = saved = time.perf_counter()
        total, count, step, progress = 0.0, 0, 0, 0.0
        while progress < 1 and not stopped:
            total = total + self.step(options.rate * rate_factor(step, options.warm_up, progress))
            count += 1
            step += 1
            if step % 20 == 0 and self.on_gpu:
                torch.cuda.synchronize()
            now = time.perf_counter()
            progress = (now - start) / budget
            if options.steps:
                progress = max(progress, step / options.steps)
            if now - shown > 5 or progress >= 1:
                left = (now - start) * (1 / progress - 1)
                print(f"step {step:6d}  loss {float(total) / count:.5f}  "
                      f"epoch {step * options.batch / len(self.batches.labels):5.1f}  "
                      f"elapsed {clock(now - start)}  left {clock(max(left, 0))}", flush=True)
                total, count, shown = 0.0, 0, now
            if now - saved > 60:
                self.save()
                saved = now
        self.save()
        print(f"{step} steps of {options.batch} pictures in {clock(time.perf_counter() - start)}, "
              f"saved in {options.output}")


def main():
    options = parse_arguments()
    torch.manual_seed(options.seed)
    trainer = Trainer(options)
    count = sum(parameter.numel() for parameter in trainer.network.parameters())
    pictures = len(trainer.batches.labels)
    print(f"{count} parameters, {pictures} pictures, on {trainer.device}", flush=True)
    trainer.run()


if __name__ == "__main__":
    main()
