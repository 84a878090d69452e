"""MNIST and Fashion-MNIST as one data set of 20 classes, from the files that get_data.sh leaves."""

import gzip
import math
import struct
from pathlib import Path

import numpy
import torch

CLASSES = 20
FOLDERS = ("mnist", "fashion-mnist")  # classes 0-9, classes 10-19
NAMES = [str(digit) for digit in range(10)] + [
    "t-shirt", "trousers", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
]


def read_idx(path):
    """The array of an IDX file of bytes: two zeros, type 8, rank, big-endian sizes, data."""
    with gzip.open(path, "rb") as file:
        content = file.read()
    zeros, kind, rank = struct.unpack_from(">HBB", content)
    if zeros != 0 or kind != 8:
        raise ValueError(f"{path} is not an IDX file of bytes")
    shape = struct.unpack_from(f">{rank}I", content, 4)
    start = 4 + 4 * rank
    if len(content) - start != math.prod(shape):
        raise ValueError(f"{path} holds {len(content) - start} bytes of data, not {shape}")
    return numpy.frombuffer(content, numpy.uint8, offset=start).reshape(shape)


def load(folder, part):
    """Pictures as bytes [count, 1, 28, 28] and classes 0..19 [count]; part is "train" or "t10k"."""
    pictures, labels = [], []
    for index, name in enumerate(FOLDERS):
        source = Path(folder) / name
        pictures.append(read_idx(source / f"{part}-images-idx3-ubyte.gz"))
        classes = read_idx(source / f"{part}-labels-idx1-ubyte.gz").astype(numpy.int64)
        labels.append(classes + 10 * index)
    pictures = torch.from_numpy(numpy.concatenate(pictures)).unsqueeze(1)
    return pictures, torch.from_numpy(numpy.concatenate(labels))


def to_unit_range(pictures):
    """Bytes 0..255 to floats in [-1, 1]."""
    return pictures.float() / 127.5 - 1.0
