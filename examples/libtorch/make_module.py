#!/usr/bin/env python3
"""Writes the TorchScript module that libtorch-ddim loads, and what a DDIM loop in Python makes of it.

    python3 examples/libtorch/make_module.py tests/data/torchscript

module.pt is a small convolutional network, v prediction, with weights from a fixed seed: untrained,
so its samples mean nothing, but they are always the same. reference.json holds where the loop
starts and where it ends, computed in double. Needs torch (Debian: python3-torch).
"""

import io
import json
import math
import pathlib
import sys
import zipfile

import torch

CHANNELS = 16
STEPS = 10
TRAIN_TIMESTEPS = 1000
SHAPE = (3, 1, 8, 8)


class Network(torch.nn.Module):
    """Three convolutions; the timestep enters as sines and cosines, as in every diffusion model."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.second = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.last = torch.nn.Conv2d(CHANNELS, 1, 3, padding=1)
        self.time = torch.nn.Linear(CHANNELS, CHANNELS)
        exponents = torch.arange(CHANNELS // 2) / (CHANNELS // 2)
        self.register_buffer("frequencies", torch.exp(-math.log(10000.0) * exponents))

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        angles = timesteps.to(x.dtype)[:, None] * self.frequencies[None]
        embedding = self.time(torch.cat([torch.sin(angles), torch.cos(angles)], dim=1))
        h = torch.tanh(self.first(x) + embedding[:, :, None, None])
        h = h + torch.tanh(self.second(h))
        return self.last(h)


def without_debug_information(module_bytes):
    """The same archive without the parts that name source files on this machine."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(module_bytes)) as old, zipfile.ZipFile(result, "w") as new:
        for item in old.infolist():
            if not item.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(item.filename), old.read(item))
    return result.getvalue()


def ddim(network, x):
    """DDIM, eta 0, v prediction, linear betas, leading timesteps (arXiv 2010.02502, eq. 12)."""
    betas = torch.linspace(1e-4, 0.02, TRAIN_TIMESTEPS, dtype=torch.float64)
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    stride = TRAIN_TIMESTEPS // STEPS
    for t in range((STEPS - 1) * stride, -1, -stride):
        now = alphas_cumprod[t]
        later = alphas_cumprod[t - stride] if t >= stride else torch.ones((), dtype=torch.float64)
        v = network(x, torch.full((x.shape[0],), t, dtype=torch.int64))
        x0 = now.sqrt() * x - (1 - now).sqrt() * v
        eps = now.sqrt() * v + (1 - now).sqrt() * x
        x = later.sqrt() * x0 + (1 - later).sqrt() * eps
    return x


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/data/torchscript")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(20)
    network = Network().eval()
    start = torch.randn(SHAPE)  # in float, so that both loops start from the same numbers

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(network), buffer)
    module = folder / "module.pt"
    module.write_bytes(without_debug_information(buffer.getvalue()))

    with torch.no_grad():
        end = ddim(torch.jit.load(str(module)).double(), start.double())
    reference = {
        "shape": list(SHAPE),
        "steps": STEPS,
        "start": start.flatten().tolist(),
        "end": end.flatten().tolist(),
    }
    (folder / "reference.json").write_text(json.dumps(reference) + "\n")


if __name__ == "__main__":
    main()
