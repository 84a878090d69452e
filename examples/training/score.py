"""Scores pictures of the 20 classes: share recognised by a classifier, and Frechet distance.

The classifier is a plain convolutional network, trained on the real training pictures and kept in a
file together with the statistics of its features on the real test pictures, so that a later score
needs that file alone. The Frechet distance is that of Heusel et al. 2017 (arXiv:1706.08500), with
this classifier's features in place of Inception's: compare it only with scores of the same file.

    python3 score.py --classifier classifier.pt --data data                  train the classifier
    python3 score.py --classifier classifier.pt --model FOLDER               sample and score
    python3 score.py --classifier classifier.pt --model FOLDER --clip-rules  compare clipping rules
    python3 score.py --classifier classifier.pt --model FOLDER --steps 1,2,4,8   compare steps
    python3 score.py --classifier classifier.pt --pictures a.npy b.npy       score files
    python3 score.py --data data --model FOLDER --errors     errors of eps or v, and of x0

A file of pictures is float32 [count, 1, 28, 28] in the range of [-1, 1], all of one class after
another; the files are joined in the order given. Sampling seeds class c with --seed + c, one
generator a class on the CPU, so every picture can be made again alone.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy
import torch
from torch import nn
from torch.nn import functional

import data_set

FEATURES = 128
CLIP_RULES = {  # options of DDIMScheduler, options of its step
    "no clipping": ({"clip_sample": False}, {}),
    "clip, epsilon re-derived": ({"clip_sample": True}, {"use_clipped_model_output": True}),
    "clip, raw epsilon": ({"clip_sample": True}, {"use_clipped_model_output": False}),
}


class Classifier(nn.Module):
    """Four convolutions, two poolings, 128 features, 20 classes."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Linear(64 * 7 * 7, FEATURES)
        self.output = nn.Linear(FEATURES, data_set.CLASSES)

    def features(self, pictures):
        return functional.relu(self.hidden(self.convolutions(pictures).flatten(1)))

    def forward(self, pictures):
        features = functional.dropout(self.features(pictures), 0.5, self.training)
        return self.output(features)


@torch.no_grad()
def classify(classifier, pictures):
    """Predicted classes [count] and features [count, 128] in float64, on the CPU."""
    device = next(classifier.parameters()).device
    predicted, features = [], []
    for part in pictures.split(1000):
        found = classifier.features(part.to(device))
        predicted.append(classifier.output(found).argmax(1).cpu())
        features.append(found.double().cpu())
    return torch.cat(predicted), torch.cat(features)


def train_classifier(options):
    """Trains for --epochs epochs and returns the content of the classifier's file."""
    torch.manual_seed(0)
    device = torch.device(options.device)
    pictures, labels = (tensor.to(device) for tensor in data_set.load(options.data, "train"))
    classifier = Classifier().to(device)
    batch, rate, start = 256, 1e-3, time.perf_counter()
    optimizer = torch.optim.Adam(classifier.parameters(), lr=rate)
    steps = options.epochs * (len(labels) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(options.epochs):
        order = torch.randperm(len(labels), device=device)
        for chosen in order.split(batch)[:len(labels) // batch]:
            scores = classifier(data_set.to_unit_range(pictures[chosen]))
            loss = functional.cross_entropy(scores, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        elapsed = time.perf_counter() - start
        left = elapsed * (options.epochs / (epoch + 1) - 1)
        print(f"classifier: epoch {epoch + 1} of {options.epochs}, {left:.0f} s left", flush=True)
    classifier.eval()
    test_pictures, test_labels = data_set.load(options.data, "t10k")
    predicted, features = classify(classifier, data_set.to_unit_range(test_pictures))
    right = (predicted == test_labels).double()
    by_class = [features[test_labels == label] for label in range(data_set.CLASSES)]
    return {
        "weights": {name: value.cpu() for name, value in classifier.state_dict().items()},
        "accuracy_digits": float(right[test_labels < 10].mean()),
        "accuracy_clothing": float(right[test_labels >= 10].mean()),
        "means": torch.stack([part.mean(0) for part in by_class]),
        "second_moments": torch.stack([part.T @ part / len(part) for part in by_class]),
    }


def root(matrix):
    """Square root of a symmetric positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet_distance(mean_a, covariance_a, mean_b, covariance_b):
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)."""
    half = root(covariance_a)
    cross = torch.linalg.eigvalsh(half @ covariance_b @ half).clamp(min=0).sqrt().sum()
    traces = covariance_a.trace() + covariance_b.trace()
    return float((mean_a - mean_b).square().sum() + traces - 2 * cross)


class Judge:
    """A trained classifier with the statistics of the real test pictures."""

    def __init__(self, content, device):
        self.content = content
        self.classifier = Classifier().to(device).eval()
        self.classifier.load_state_dict(content["weights"])

    def real_statistics(self, classes):
        """Mean and covariance of the features of real pictures, the classes in equal shares."""
        mean = self.content["means"][classes].mean(0)
        second = self.content["second_moments"][classes].mean(0)
        return mean, second - torch.outer(mean, mean)

    def score(self, pictures, classes):
        """Recognised shares and the Frechet distance; equally many pictures of each class."""
        labels = torch.tensor(classes).repeat_interleave(len(pictures) // len(classes))
        predicted, features = classify(self.classifier, pictures)
        right = (predicted == labels).double()
        mean = features.mean(0)
        centred = features - mean
        covariance = centred.T @ centred / len(features)
        result = {"frechet": frechet_distance(mean, covariance, *self.real_statistics(classes))}
        for name, members in (("digits", labels < 10), ("clothing", labels >= 10)):
            if members.any():
                result[name] = float(right[members].mean())
        result["by_class"] = {label: float(right[labels == label].mean()) for label in classes}
        return result


def load_model(folder, device):
    """The network and the scheduler of a diffusers folder, in float32."""
    import diffusers

    folder = Path(folder)
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(f"{folder} holds no model_index.json: it is no model folder")
    network = diffusers.UNet2DModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    scheduler = getattr(diffusers, config["_class_name"]).from_pretrained(folder / "scheduler")
    return network.float().eval().to(device), scheduler


def distilled(scheduler):
    """Whether the folder is a student's: guidance is in the network, and every step draws noise."""
    return type(scheduler).__name__ == "LCMScheduler"


@torch.no_grad()
def sample(network, scheduler, classes, per_class, seed, steps, guidance, **step_options):
    """Guided pictures, per_class of each class in turn; class c starts from seed + c."""
    device = next(network.parameters()).device
    side, channels = network.config.sample_size, network.config.in_channels
    generators = [torch.Generator().manual_seed(seed + label) for label in classes]
    starts = [torch.randn(per_class, channels, side, side, generator=generator)
              for generator in generators]
    null_class = network.config.num_class_embeds - 1
    if distilled(scheduler):  # noise of the steps from the generator of the class: one at a time
        groups = [(start, torch.full((per_class,), label), {"generator": generator})
                  for start, label, generator in zip(starts, classes, generators)]
    else:
        labels = torch.tensor(classes).repeat_interleave(per_class)
        groups = [(x, label, step_options)
                  for x, label in zip(torch.cat(starts).split(2000), labels.split(2000))]
    pictures = []
    for x, label, options in groups:
        x, label = x.to(device), label.to(device)
        none = torch.full_like(label, null_class)
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            answer = network(x, t, class_labels=label).sample
            if guidance != 1:
                unconditional = network(x, t, class_labels=none).sample
                answer = unconditional + guidance * (answer - unconditional)
            x = scheduler.step(answer, t, x, **options).prev_sample
        pictures.append(x.cpu())
    return torch.cat(pictures)


def percent(result, name):
    return f"{100 * result[name]:.1f} %" if name in result else "-"


def compare_steps(judge, options, record):
    """A row for each number of steps, from the same seeds."""
    network, scheduler = load_model(options.model, options.device)
    guidance = chosen_guidance(options, scheduler)
    print("| steps | digits | clothing | Frechet distance |")
    print("|---:|---:|---:|---:|", flush=True)
    for steps in options.steps:
        pictures = sample(network, scheduler, options.classes, options.per_class, options.seed,
                          steps, guidance)
        result = judge.score(pictures, options.classes)
        print(f"| {steps} | {percent(result, 'digits')} | {percent(result, 'clothing')} | "
              f"{result['frechet']:.1f} |", flush=True)
        record({"guidance": guidance, "steps": steps, **result})


def chosen_guidance(options, scheduler):
    if options.guidance is not None:
        return options.guidance
    return 1.0 if distilled(scheduler) else 2.0


def compare_clip_rules(judge, options, record):
    """Each rule at each number of steps, with and without guidance, from the same seeds."""
    network, scheduler = load_model(options.model, options.device)
    print("| guidance | steps | rule | digits | clothing | Frechet distance |")
    print("|---:|---:|:---|---:|---:|---:|", flush=True)
    for guidance in (chosen_guidance(options, scheduler), 1.0):
        for steps in (10, 20, 50):
            for rule, (config, step_options) in CLIP_RULES.items():
                chosen = scheduler.from_config(scheduler.config, **config)
                pictures = sample(network, chosen, options.classes, options.per_class,
                                  options.seed, steps, guidance, **step_options)
                result = judge.score(pictures, options.classes)
                print(f"| {guidance:g} | {steps} | {rule} | {percent(result, 'digits')} | "
                      f"{percent(result, 'clothing')} | {result['frechet']:.2f} |", flush=True)
                record({"guidance": guidance, "steps": steps, "rule": rule, **result})


@torch.no_grad()
def prediction_errors(options):
    """Root mean square errors of a network's answers on real test pictures, and of x0 from them."""
    network, scheduler = load_model(options.model, options.device)
    kind = {"epsilon": "eps", "v_prediction": "v"}[scheduler.config.prediction_type]
    pictures, labels = data_set.load(options.data, "t10k")
    generator = torch.Generator().manual_seed(options.seed)
    chosen = torch.randperm(len(labels), generator=generator)[:50 * len(options.classes)]
    x0, label = data_set.to_unit_range(pictures[chosen]), labels[chosen]
    noise = torch.randn(x0.shape, generator=generator)
    print(f"| t | sigma / alpha | error of {kind} | error of x0 |\n|---:|---:|---:|---:|")
    for t in (999, 979, 939, 879, 759, 499, 259, 139):
        product = scheduler.alphas_cumprod[t].double()
        alpha, sigma = float(product.sqrt()), float((1 - product).sqrt())
        state = (alpha * x0 + sigma * noise).to(options.device)
        answer = network(state, t, class_labels=label.to(options.device)).sample.cpu()
        target, factor = (noise, sigma / alpha) if kind == "eps" else (alpha * noise - sigma * x0,
                                                                       sigma)
        error = float((answer - target).square().mean().sqrt())
        print(f"| {t} | {sigma / alpha:.2f} | {error:.4f} | {factor * error:.3f} |", flush=True)


def parse_classes(text):
    """A list such as 0-9,12: ranges include both ends."""
    classes = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        classes += range(int(first), int(last or first) + 1)
    if not all(0 <= label < data_set.CLASSES for label in classes):
        raise argparse.ArgumentTypeError(f"{text}: the classes are 0 to {data_set.CLASSES - 1}")
    return classes


def parse_steps(text):
    return [int(part) for part in text.split(",")]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--classifier", default="classifier.pt",
        help="the classifier's file, made if it does not exist (default: %(default)s)")
    add("--data", help="folder made by get_data.sh, needed to train the classifier")
    add("--epochs", type=int, default=12, help="training of the classifier (default: %(default)s)")
    add("--pictures", nargs="+", help="files of pictures to score")
    add("--model", help="diffusers folder to sample from")
    add("--classes", type=parse_classes, default="0-19", help="default: %(default)s")
    add("--per-class", type=int, default=100, help="pictures a class (default: %(default)s)")
    add("--steps", type=parse_steps, default="50",
        help="steps, or a list such as 1,2,4,8: a table (default: %(default)s)")
    add("--guidance", type=float,
        help="u + g (c - u) (default: 2; 1 for a student, whose guidance is in the network)")
    add("--seed", type=int, default=1000, help="class c takes seed + c (default: %(default)s)")
    add("--clip-rules", action="store_true", help="compare the three rules of clipping")
    add("--errors", action="store_true",
        help="instead of sampling, errors of the network on real test pictures; needs --data")
    add("--save-pictures", metavar="FILE.npy", help="keep the sampled pictures")
    add("--json", metavar="FILE", help="also write the scores as JSON")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    return parser.parse_args()


def load_judge(options):
    path = Path(options.classifier)
    if not path.is_file():
        if not options.data:
            sys.exit(f"score.py: {path} does not exist, and training it needs --data")
        torch.save(train_classifier(options), path)
    judge = Judge(torch.load(path, map_location="cpu"), options.device)
    digits, clothing = judge.content["accuracy_digits"], judge.content["accuracy_clothing"]
    print(f"classifier on real test pictures: digits {100 * digits:.2f} %, "
          f"clothing {100 * clothing:.2f} %", flush=True)
    return judge


def load_pictures(paths, classes, per_class):
    pictures = numpy.concatenate([numpy.load(path) for path in paths])
    expected = (len(classes) * per_class, 1, 28, 28)
    if pictures.dtype != numpy.float32 or pictures.shape != expected:
        sys.exit(f"score.py: the files hold {pictures.dtype} {pictures.shape}, --classes and "
                 f"--per-class ask for float32 {expected}")
    return torch.from_numpy(pictures)


def print_score(result):
    for name in ("digits", "clothing"):
        if name in result:
            print(f"{name} recognised: {100 * result[name]:.2f} %")
    print(f"Frechet distance: {result['frechet']:.3f}")
    weakest = sorted(result["by_class"], key=result["by_class"].get)[:5]
    print("weakest classes: " + ", ".join(
        f"{data_set.NAMES[label]} {100 * result['by_class'][label]:.1f} %" for label in weakest))


def main():
    options = parse_arguments()
    torch.backends.cudnn.allow_tf32 = False
    if options.errors:
        prediction_errors(options)
        return
    judge = load_judge(options)
    results = []

    def record(result):
        results.append(result)
        if options.json:
            Path(options.json).write_text(json.dumps(results, indent=1) + "\n")

    if options.pictures:
        pictures = load_pictures(options.pictures, options.classes, options.per_class)
        record(judge.score(pictures, options.classes))
        print_score(results[-1])
    elif options.model and options.clip_rules:
        compare_clip_rules(judge, options, record)
    elif options.model and len(options.steps) > 1:
        compare_steps(judge, options, record)
    elif options.model:
        network, scheduler = load_model(options.model, options.device)
        pictures = sample(network, scheduler, options.classes, options.per_class, options.seed,
                          options.steps[0], chosen_guidance(options, scheduler))
        if options.save_pictures:
            numpy.save(options.save_pictures, pictures.numpy())
        record(judge.score(pictures, options.classes))
        print_score(results[-1])


if __name__ == "__main__":
    main()
