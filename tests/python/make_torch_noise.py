"""Writes tests/data/noise/torch_randn_sizes.json: what PyTorch's CPU generator returns for many
sizes, and for sequences of calls that mix float32, float64, randn and rand. Needs PyTorch alone:
    python3 tests/python/make_torch_noise.py tests/data/noise/torch_randn_sizes.json"""
import json
import random
import sys

import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def numbers(tensor, indices):
    digits = 9 if tensor.dtype == torch.float32 else 17
    return [float(f"{tensor[i].item():.{digits}g}") for i in indices]


def call(function, n, dtype, generator, indices):
    tensor = getattr(torch, function)(n, dtype=DTYPES[dtype], generator=generator)
    indices = sorted({i for i in indices if 0 <= i < n})
    return {"function": function, "n": n, "dtype": dtype, "indices": indices,
            "values": numbers(tensor, indices)}


def single(n, dtype):
    seed = 1000 + n
    generator = torch.Generator().manual_seed(seed)
    indices = [0, 7, 8, n - 17, n - 16, n - 9, n - 8, n - 1]
    return {"seed": seed, "calls": [call("randn", n, dtype, generator, indices)]}


def sequence(seed, chooser):
    generator = torch.Generator().manual_seed(seed)
    calls = []
    for _ in range(10):
        n = chooser.choice([chooser.randint(1, 15), chooser.randint(16, 70)])
        function = chooser.choice(["randn", "randn", "randn", "rand"])
        dtype = chooser.choice(list(DTYPES))
        calls.append(call(function, n, dtype, generator, [0, n // 2, n - 1]))
    return {"seed": seed, "calls": calls}


def main():
    chooser = random.Random(5)
    sizes = [single(n, dtype) for n in [*range(1, 101), 1000, 4097] for dtype in DTYPES]
    seeds = [*range(20), 2**32 - 1, 2**32, 2**32 + 7, 7, 2**63, 2**64 - 1]
    document = {"source": f"torch {torch.__version__} (CPU)", "sizes": sizes,
                "sequences": [sequence(seed, chooser) for seed in seeds]}
    with open(sys.argv[1], "w") as file:
        file.write('{"source": ' + json.dumps(document["source"]))
        for key in ("sizes", "sequences"):
            rows = ",\n".join(json.dumps(row) for row in document[key])
            file.write(f',\n"{key}": [\n{rows}]')
        file.write("}\n")


main()
