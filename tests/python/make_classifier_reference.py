"""Writes the test data of tests/test_classifier.cpp: what torch says of small classifiers with
random weights, and of the two trained ones.

    python3 make_classifier_reference.py OUTPUT_FOLDER

Needs torch and numpy. small-judge/ and small-guide/ get config.json and model.safetensors as
train_classifiers.py saves them; reference.json gets, for these and the trained judge/ and guide/,
    t         the timestep of each picture, empty where the network hears none
    classes   a class for each picture
    scores    [3][classes]
    gradient  [3][...]: of log p(class | x) in x, every `stride`-th number
of the three pictures that `pictures` makes, computed in float64 and written with ten digits.
"""

import json
import pathlib
import struct
import sys

import numpy
import torch

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES / "training"))
import train_classifiers  # noqa: E402

TRAINED = EXAMPLES / "models" / "digits-and-clothing-classifier"
SMALL = {"in_channels": 2, "sample_size": 13, "block_channels": [3, 5], "features": 7, "classes": 4}
TIMES = [0.0, 412.0, 999.0]


def pictures(channels, side):
    """Number i of all is sin(0.37 i + 0.001 i^2) cos(0.11 i)."""
    i = torch.arange(3 * channels * side * side, dtype=torch.float64)
    return ((0.37 * i + 0.001 * i * i).sin() * (0.11 * i).cos()).view(3, channels, side, side)


def load(folder):
    """A classifier and its config from what `save` wrote."""
    config = json.loads((folder / "config.json").read_text())
    network = train_classifiers.Classifier(config)
    content = (folder / "model.safetensors").read_bytes()
    length, = struct.unpack_from("<Q", content)
    weights = {}
    for name, entry in json.loads(content[8:8 + length]).items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        values = numpy.frombuffer(content[begin:end], numpy.float16).reshape(entry["shape"])
        weights[name] = torch.from_numpy(values.astype(numpy.float64))
    network.load_state_dict(weights)
    return network.double().eval(), config


def answers(folder, stride):
    network, config = load(folder)
    x = pictures(config["in_channels"], config["sample_size"]).requires_grad_()
    t = torch.tensor(TIMES) if config["time_channels"] else None
    classes = [0, config["classes"] - 1, 2]
    scores = network(x, t)
    scores.log_softmax(1)[range(3), classes].sum().backward()
    gradient = x.grad.flatten(1)[:, ::stride]
    return {"t": TIMES if t is not None else [], "classes": classes, "stride": stride,
            "scores": rounded(scores.detach().tolist()), "gradient": rounded(gradient.tolist())}


def rounded(rows):
    return [[float(f"{value:.10g}") for value in row] for row in rows]


def main():
    output = pathlib.Path(sys.argv[1])
    reference = {}
    for name, kind in (("small-judge", train_classifiers.JUDGE),
                       ("small-guide", train_classifiers.GUIDE)):
        torch.manual_seed(len(reference))
        config = {"_class_name": "PictureClassifier", **SMALL, **kind, "time_width": None}
        if kind["time_channels"]:
            config |= {"time_channels": 8, "time_width": 6}
        network = train_classifiers.Classifier(config)
        for value in network.parameters():
            value.data = 2 * value.data + 0.05 * torch.randn(value.shape)
        train_classifiers.save(network, config, output / name)
        reference[name] = answers(output / name, 7)
    for name in ("judge", "guide"):
        reference[name] = answers(TRAINED / name, 41)
    text = json.dumps(reference).replace("], [", "],\n[")
    (output / "reference.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
