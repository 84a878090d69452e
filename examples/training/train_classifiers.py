"""Trains the two classifiers of the examples, the judge and the guide, and saves them.

The judge sees finished pictures and says which of the 20 classes they show: the examples count with
it. The guide sees noised pictures and their timestep, and its gradient steers samplers (Dhariwal
and Nichol 2021, arXiv:2105.05233). They share nothing but the data: pictures that were guided by
a network must not be judged by that network.

    sh get_data.sh data
    python3 train_classifiers.py --data data

Needs torch and numpy. On one core of a processor each takes about five minutes.
"""

import argparse
import json
import math
import struct
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

import data_set

TRAIN_TIMESTEPS = 1000
JUDGE = {"activation": "relu", "pooling": "max", "time_channels": None}
GUIDE = {"activation": "silu", "pooling": "average", "time_channels": 32}
ACTIVATIONS = {"relu": functional.relu, "silu": functional.silu}
POOLINGS = {"max": functional.max_pool2d, "average": functional.avg_pool2d}


class TimeEmbedding(nn.Module):
    """Cosines and sines of a timestep, then linear, SiLU, linear."""

    def __init__(self, channels, width):
        super().__init__()
        half = channels // 2
        exponents = -math.log(10000.0) * torch.arange(half, dtype=torch.float32) / half
        self.register_buffer("frequencies", exponents.exp(), persistent=False)
        self.linear_1 = nn.Linear(channels, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t):
        phases = t.float()[:, None] * self.frequencies.float()  # in float32 in any network
        waves = torch.cat([phases.cos(), phases.sin()], 1).to(self.linear_1.weight.dtype)
        return self.linear_2(functional.silu(self.linear_1(waves)))


class Block(nn.Module):
    """Two 3x3 convolutions, each followed by the activation. The first also hears the time."""

    def __init__(self, channels_in, channels, time_width):
        super().__init__()
        self.conv_1 = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.time = nn.Linear(time_width, channels) if time_width else None

    def forward(self, x, time, activation):
        x = self.conv_1(x)
        if self.time is not None:
            x = x + self.time(time)[:, :, None, None]
        return activation(self.conv_2(activation(x)))


class Classifier(nn.Module):
    """Blocks with a 2x2 pooling after each, a hidden layer, one number a class."""

    def __init__(self, config):
        super().__init__()
        self.activation = ACTIVATIONS[config["activation"]]
        self.pooling = POOLINGS[config["pooling"]]
        time_width = config["time_width"] if config["time_channels"] else 0
        self.time_embedding = (TimeEmbedding(config["time_channels"], time_width)
                               if time_width else None)
        widths = [config["in_channels"], *config["block_channels"]]
        self.blocks = nn.ModuleList(Block(*pair, time_width)
                                    for pair in zip(widths[:-1], widths[1:]))
        side = config["sample_size"] >> len(config["block_channels"])
        self.hidden = nn.Linear(widths[-1] * side * side, config["features"])
        self.output = nn.Linear(config["features"], config["classes"])

    def forward(self, x, t=None, dropout=0.0):
        """One number a class; their softmax is the probability of the classes."""
        time = self.time_embedding(t) if self.time_embedding is not None else None
        for block in self.blocks:
            x = self.pooling(block(x, time, self.activation), 2)
        features = self.activation(self.hidden(x.flatten(1)))
        return self.output(functional.dropout(features, dropout, self.training))


def make_config(options, kind):
    return {
        "_class_name": "PictureClassifier",
        "in_channels": 1,
        "sample_size": 28,
        "block_channels": options.channels,
        "features": 128,
        "classes": data_set.CLASSES,
        **kind,
        "time_width": 64 if kind["time_channels"] else None,
    }


def signal_levels():
    """alpha(t) and sigma(t) of the diffusion network: linear betas from 1e-4 to 0.02."""
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TRAIN_TIMESTEPS), 0)
    return alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()


def noised(pictures, t, generator=None):
    alpha, sigma = (level[t].view(-1, 1, 1, 1) for level in signal_levels())
    noise = torch.randn(pictures.shape, generator=generator)
    return alpha * pictures + sigma * noise


def train(name, network, options, data, epochs, dropout):
    """Adam with a short warm-up and cosine decay; noised pictures if the network hears the time."""
    pictures, labels = data
    batch, rate, start = 128, 2e-3, time.perf_counter()
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.02)
    per_epoch = len(labels) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, epochs * per_epoch,
                                                   pct_start=0.1)
    network.train()
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(labels)).split(batch)[:per_epoch]:
            x, t = data_set.to_unit_range(pictures[chosen]), None
            if network.time_embedding is not None:
                t = torch.randint(TRAIN_TIMESTEPS, (len(x),))
                x = noised(x, t)
            loss = functional.cross_entropy(network(x, t, dropout), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        elapsed = time.perf_counter() - start
        print(f"{name}: epoch {epoch + 1} of {epochs}, loss {total / per_epoch:.4f}, "
              f"{elapsed:.0f} s so far", flush=True)
    network.eval()


@torch.no_grad()
def report(name, network, data, t=None):
    """Prints the shares of the test pictures that are classified rightly."""
    pictures, labels = data
    generator = torch.Generator().manual_seed(1)
    right = []
    for part, truth in zip(pictures.split(1000), labels.split(1000)):
        x, times = data_set.to_unit_range(part), None
        if t is not None:
            times = torch.full((len(x),), t)
            x = noised(x, times, generator)
        right.append(network(x, times).argmax(1) == truth)
    right = torch.cat(right).double()
    level = "" if t is None else f", noised to t = {t}"
    print(f"{name}, test pictures{level}: digits {100 * right[labels < 10].mean():.2f} %, "
          f"clothing {100 * right[labels >= 10].mean():.2f} %", flush=True)


def save(network, config, folder):
    """config.json and the weights in float16, in the safetensors format."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    header, data = {}, b""
    for key, value in network.state_dict().items():
        content = value.half().contiguous().numpy().tobytes()
        header[key] = {"dtype": "F16", "shape": list(value.shape),
                       "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def round_to_half(network):
    """The weights as they are saved, so that what is reported is what a reader gets."""
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(value.half().float())


def parse_arguments():
    models = Path(__file__).resolve().parents[1] / "models"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="folder made by get_data.sh")
    add("--output", type=Path, default=models / "digits-and-clothing-classifier",
        help="folder to save judge/ and guide/ in")
    add("--only", choices=["judge", "guide"], help="train this one alone")
    add("--channels", type=int, nargs="+", default=[16, 32], help="channels of the blocks")
    add("--judge-epochs", type=int, default=6, help="passes over the data")
    add("--guide-epochs", type=int, default=5, help="passes over the data")
    add("--seed", type=int, default=0, help="seed of weights, order, timesteps and noise")
    add("--threads", type=int, default=1, help="threads of the processor")
    return parser.parse_args()


def main():
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    training = data_set.load(options.data, "train")
    test = data_set.load(options.data, "t10k")
    for name, kind, epochs, dropout, times, seed in (
            ("judge", JUDGE, options.judge_epochs, 0.5, [None], options.seed),
            ("guide", GUIDE, options.guide_epochs, 0.1, [0, 100, 200, 300, 400, 500, 700],
             options.seed + 1)):
        if options.only not in (None, name):
            continue
        torch.manual_seed(seed)
        config = make_config(options, kind)
        network = Classifier(config).to(memory_format=torch.channels_last)  # the faster order
        train(name, network, options, training, epochs, dropout)
        round_to_half(network)
        for t in times:
            report(name, network, test, t)
        save(network, config, options.output / name)


if __name__ == "__main__":
    main()
