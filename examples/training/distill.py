"""Distils the network of the examples into a student that needs 1 to 8 steps, guidance built in.

The student is a latent consistency model (Luo et al. 2023, arXiv:2310.04378; Song et al. 2023,
arXiv:2303.01469): from any point x_t of a trajectory of the guided teacher it gives the point where
that trajectory ends, x0. It is sampled by LCMScheduler: predict x0, add new noise at the next
level, predict again. Three things differ from the usual recipe:

- The target is the trajectory's end itself, which the teacher computes (DPM-Solver++ 2M, Lu et al.
  2022, arXiv:2211.01095), not the student's own average at the next point: no target is wrong at
  first, which counts where updates are few.
- A third of the trajectories starts at pure noise and teaches the first timestep. The others start
  where multistep sampling goes next: at a picture, real or the student's, that was noised again;
  all points on their way share the end. They are guided less (--guidance-again), for each step of
  multistep sampling guides anew, and pictures that are guided twice lose variety.
- The student predicts v = alpha eps - sigma x0 (Salimans and Ho 2022, arXiv:2202.00512). Its
  x0 = alpha x - sigma v divides by nothing, whereas x0 = (x - sigma eps) / alpha multiplies an
  error of the network by 157 at the first timestep.

    python3 distill.py --data data
"""

import argparse
import copy
import json
import math
import signal
import time
from pathlib import Path

import diffusers
import torch
import torch.multiprocessing
from diffusers import LCMScheduler, UNet2DModel

import cpu_network
import data_set
import score
from train import Average, clock, rate_factor

NULL_CLASS = data_set.CLASSES
# Where the teacher is asked; all of them on LCMScheduler's own grid of 50 steps.
KNOTS = (999, 939, 879, 819, 759, 699, 639, 579, 539, 499, 439, 379, 319, 259, 199, 139, 79, 39, 19)
# The timesteps of sampling in 1, 2, 4 and 8 steps, with their shares of the training pairs.
SHARES = {999: 0.20, 879: 0.08, 759: 0.14, 639: 0.08, 499: 0.16, 379: 0.08, 259: 0.14, 139: 0.06}
CHAINS = ((999, 499), (999, 759, 499, 259), (999, 879, 759, 639, 499, 379, 259, 139))
SIGMA_DATA, TIMESTEP_SCALING = 0.5, 10.0
HUBER = 0.02


def parse_arguments():
    models = Path(__file__).resolve().parents[1] / "models"
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--data", required=True, help="folder made by get_data.sh")
    add("--teacher", default=models / "digits-and-clothing", help="folder of the teacher")
    add("--output", default=models / "digits-and-clothing-lcm",
        help="folder to save the student in")
    add("--minutes", type=float, default=5, help="training time in all, resumed runs included")
    add("--guidance", type=float, default=2.0, help="the teacher's guidance: u + g (c - u)")
    add("--guidance-again", type=float, default=1.9,
        help="the same for states that are pictures noised again, which have been guided before")
    add("--batch", type=int, default=64, help="pairs an update, and trajectories computed together")
    add("--reuse", type=float, default=3, help="how often a pair is learned from, on average")
    add("--kept", type=int, default=8192, help="pairs kept of each timestep")
    add("--rate", type=float, default=1e-3, help="peak learning rate")
    add("--warm-up", type=int, default=200, help="updates of linear warm-up")
    add("--ema", type=float, default=0.999, help="decay of the averaged weights")
    add("--seed", type=int, default=0, help="seed of order, timesteps and noise")
    add("--checkpoint", help="file to save the state of the run in, and to go on from if it exists")
    add("--classifier", help="score.py's classifier: judge 20 pictures a class on the way")
    add("--judge-every", type=float, default=5, help="minutes between two such scores")
    add("--float32", action="store_true",
        help="on a CPU without bfloat16 instructions: PyTorch's own operators")
    add("--threads", type=int, default=0, help="threads on a CPU, 0 for all cores")
    add("--workers", type=int, default=0,
        help="on a CPU: processes that compute trajectories beside the training; 0: it does")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    return parser.parse_args()


def make_scheduler():
    return LCMScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        original_inference_steps=50,
        timestep_scaling=TIMESTEP_SCALING,
        clip_sample=False,
        set_alpha_to_one=True,
    )


def save(network, weights, folder):
    """Writes a diffusers folder, the weights in float16."""
    config = {key: value for key, value in network.config.items() if key != "_name_or_path"}
    copied = UNet2DModel.from_config(config)
    copied.load_state_dict(weights)
    copied.half().save_pretrained(folder / "unet")
    make_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "LCMScheduler"],
        "unet": ["diffusers", "UNet2DModel"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


class Noise:
    """alpha and sigma of every timestep, on the device."""

    def __init__(self, device):
        products = make_scheduler().alphas_cumprod.double()
        self.alpha = products.sqrt().float().to(device)
        self.sigma = (1 - products).sqrt().float().to(device)

    def at(self, t):
        return self.alpha[t].view(-1, 1, 1, 1), self.sigma[t].view(-1, 1, 1, 1)

    def add(self, x0, t):
        alpha, sigma = self.at(t)
        return alpha * x0 + sigma * torch.randn_like(x0)


class Teacher:
    """The guided ODE of the teacher, solved by DPM-Solver++ 2M on the knots."""

    def __init__(self, predict, noise):
        self.predict, self.noise = predict, noise

    def x0(self, x, t, labels, guidance):
        times = torch.full((2 * len(x),), t, device=x.device)
        both = torch.cat([labels, torch.full_like(labels, NULL_CLASS)])
        with_class, without = self.predict(torch.cat([x, x]), times, both).chunk(2)
        eps = without + guidance * (with_class - without)
        return (x - self.noise.sigma[t] * eps) / self.noise.alpha[t]

    @torch.no_grad()
    def trajectory(self, x, labels, knots, guidance):
        """States at the knots (the first is x), and the end of the trajectory."""
        alpha, sigma = self.noise.alpha.double().cpu(), self.noise.sigma.double().cpu()
        rate = [float(torch.log(alpha[t] / sigma[t])) for t in knots]
        states, previous = [x], None
        for i, t in enumerate(knots):
            x0 = self.x0(states[-1], t, labels, guidance)
            if i + 1 == len(knots):
                return states, x0
            h = rate[i + 1] - rate[i]
            combined = x0
            if previous is not None:
                combined = x0 + 0.5 * h / (rate[i] - rate[i - 1]) * (x0 - previous)
            to = knots[i + 1]
            states.append(float(sigma[to] / sigma[t]) * states[-1]
                          - float(alpha[to]) * math.expm1(-h) * combined)
            previous = x0


class Pairs:
    """The newest pairs (state, end, class, timestep) of one kind, in float16."""

    def __init__(self, size, device):
        self.states = torch.empty(size, 1, 28, 28, dtype=torch.float16, device=device)
        self.ends = torch.empty_like(self.states)
        self.labels = torch.empty(size, dtype=torch.int64, device=device)
        self.times = torch.empty(size, dtype=torch.int64, device=device)
        self.added = 0

    def add(self, states, ends, labels, t):
        size = len(self.labels)
        places = (self.added + torch.arange(len(labels), device=labels.device)) % size
        self.states[places], self.ends[places] = states.half(), ends.half()
        self.labels[places], self.times[places] = labels, t
        self.added += len(labels)

    def draw(self, count):
        filled = min(self.added, len(self.labels))
        chosen = torch.randint(filled, (count,), device=self.labels.device)
        return (self.states[chosen].float(), self.ends[chosen].float(), self.labels[chosen],
                self.times[chosen])


def predictor(network, float32):
    """network(x, t, classes) in bfloat16 or, on a CPU if so asked, in float32; float32 results."""

    def on_gpu(x, t, labels):
        with torch.autocast("cuda", torch.bfloat16):
            return network(x, t, class_labels=labels, return_dict=False)[0].float()

    def on_cpu(x, t, labels):
        if float32:
            return network(x, t, class_labels=labels, return_dict=False)[0]
        return cpu_network.forward(network, x, t, labels)

    if not next(network.parameters()).is_cuda:
        return on_cpu
    network.to(memory_format=torch.channels_last)
    return on_gpu


class Student:
    """x0 by a network that predicts v, with the boundary scalings of LCMScheduler."""

    def __init__(self, network, predict, noise):
        self.network, self.predict, self.noise = network, predict, noise

    def x0(self, x, t, labels):
        alpha, sigma = self.noise.at(t)
        scaled = (TIMESTEP_SCALING * t.float()).view(-1, 1, 1, 1)
        skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
        out = scaled / (scaled**2 + SIGMA_DATA**2).sqrt()
        return skip * x + out * (alpha * x - sigma * self.predict(x, t, labels))

    @torch.no_grad()
    def chain(self, labels, timesteps):
        """x0 after multistep sampling at these timesteps, from pure noise."""
        x0 = None
        for t in timesteps:
            times = torch.full_like(labels, t)
            if x0 is None:
                x = torch.randn(len(labels), 1, 28, 28, device=labels.device)
            else:
                x = self.noise.add(x0, times)
            x0 = self.x0(x, times, labels)
        return x0


class Trajectories:
    """Makes batches of trajectories of the teacher, some from states of the student's sampling."""

    def __init__(self, teacher, student, pictures, labels, options):
        self.teacher, self.student, self.count = teacher, student, options.batch
        self.guidance, self.guidance_again = options.guidance, options.guidance_again
        self.pictures, self.labels = pictures, labels

    def start(self, progress):
        """States, classes and timestep from which the teacher shall go on."""
        device = self.labels.device
        labels = torch.randint(data_set.CLASSES, (self.count,), device=device)
        kind = torch.rand(()).item()
        if kind < 0.35:
            return torch.randn(self.count, 1, 28, 28, device=device), labels, KNOTS[0]
        if kind < 0.65 or progress < 0.1:
            chosen = torch.randint(len(self.labels), (self.count,), device=device)
            x0, labels = data_set.to_unit_range(self.pictures[chosen]), self.labels[chosen]
            places = list(SHARES)[1:]
            t = places[int(torch.randint(len(places), ()))]
        else:
            steps = CHAINS[int(torch.randint(len(CHAINS), ()))]
            last = int(torch.randint(1, len(steps), ()))
            x0, t = self.student.chain(labels, steps[:last]), steps[last]
        return self.teacher.noise.add(x0, torch.full_like(labels, t)), labels, t

    def make(self, progress):
        """Timesteps, states at them, the common end, classes."""
        x, labels, start = self.start(progress)
        knots = KNOTS[KNOTS.index(start):]
        guidance = self.guidance if start == KNOTS[0] else self.guidance_again
        states, ends = self.teacher.trajectory(x, labels, knots, guidance)
        if start == KNOTS[0]:  # sampling comes to the other points by noising again
            knots, states = knots[:1], states[:1]
        ends = ends.clamp(-1, 1)  # as every picture is before it is seen
        return knots, torch.stack(states).half(), ends.half(), labels


def work(trajectories, seed, progress, queue):
    """The loop of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # by which the program ends it
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    while True:
        queue.put(trajectories.make(progress.value))


class Distiller:
    def __init__(self, options):
        self.options = options
        self.device = torch.device(options.device)
        if options.threads:
            torch.set_num_threads(options.threads)
        noise = Noise(self.device)
        teacher = UNet2DModel.from_pretrained(Path(options.teacher) / "unet",
                                              low_cpu_mem_usage=False).float().to(self.device)
        teacher.requires_grad_(False)
        self.network = copy.deepcopy(teacher).requires_grad_(True)
        averaged = copy.deepcopy(teacher).share_memory()
        predictors = [predictor(network, options.float32)
                      for network in (teacher, self.network, averaged)]
        self.student = Student(self.network, predictors[1], noise)
        self.averaged = Student(averaged, predictors[2], noise)
        self.average = Average(self.network, options.ema)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=options.rate,
                                           betas=(0.9, 0.99), weight_decay=1e-4)
        pictures, labels = (x.to(self.device) for x in data_set.load(options.data, "train"))
        self.trajectories = Trajectories(Teacher(predictors[0], noise), self.averaged, pictures,
                                         labels, options)
        self.pairs = {t: Pairs(options.kept, self.device) for t in SHARES}
        self.others = Pairs(options.kept, self.device)
        self.computed = self.updates = 0
        self.elapsed = 0.0
        self.judge = None
        if options.classifier:
            content = torch.load(options.classifier, map_location="cpu")
            self.judge = score.Judge(content, self.device)

    def start_workers(self):
        context = torch.multiprocessing.get_context("fork")
        self.progress, self.queue = context.Value("d", 0.0), context.Queue(4)
        for i in range(self.options.workers):
            context.Process(target=work, daemon=True, args=(
                self.trajectories, self.options.seed + 1 + i, self.progress, self.queue)).start()

    @torch.no_grad()
    def publish(self):
        """Gives the averaged weights to those who sample with them."""
        for value, parameter in zip(self.average.values, self.averaged.network.parameters()):
            parameter.copy_(value)

    def keep(self, knots, states, ends, labels):
        """Files the pairs of a batch of trajectories; returns their number."""
        found = 0
        for t, state in zip(knots, states):
            self.pairs.get(t, self.others).add(state, ends, labels, t)
            found += len(labels) * (t in self.pairs)
        self.computed += len(labels)
        return found

    def gather(self, progress):
        """Takes in new trajectories: as many as are owed, or those that workers have ready."""
        missing = any(pairs.added == 0 for pairs in self.pairs.values())
        if not self.options.workers:
            while missing or self.due < 1:
                self.publish()
                found = self.keep(*self.trajectories.make(progress))
                self.due += self.options.reuse * found / self.options.batch
                missing = any(pairs.added == 0 for pairs in self.pairs.values())
            self.due -= 1
            return
        self.progress.value = progress
        if self.updates % 10 == 0:
            self.publish()
        while missing or not self.queue.empty():
            self.keep(*self.queue.get())
            missing = any(pairs.added == 0 for pairs in self.pairs.values())

    def batch(self):
        kinds = [(self.pairs[t], share) for t, share in SHARES.items()]
        kinds.append((self.others, 1 - sum(SHARES.values())))
        shares = torch.tensor([share for _, share in kinds])
        counts = torch.multinomial(shares, self.options.batch, replacement=True)
        counts = counts.bincount(minlength=len(kinds))
        parts = [kind.draw(int(count)) for (kind, _), count in zip(kinds, counts) if count]
        return [torch.cat(column) for column in zip(*parts)]

    def update(self, rate):
        states, ends, labels, times = self.batch()
        x0 = self.student.x0(states, times, labels)
        error = (x0 - ends).square().mean((1, 2, 3))
        loss = ((error + HUBER**2).sqrt() - HUBER).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.average.update()
        self.updates += 1
        return loss.detach()

    def save(self):
        save(self.network, self.average.state_dict(), Path(self.options.output))
        if self.options.checkpoint:
            torch.save({
                "network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(),
                "average": self.average.values, "steps": self.average.steps,
                "counts": (self.computed, self.updates, self.elapsed),
            }, self.options.checkpoint)

    def resume(self):
        path = self.options.checkpoint
        if not path or not Path(path).is_file():
            return
        content = torch.load(path, map_location=self.device)
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        for value, kept in zip(self.average.values, content["average"]):
            value.copy_(kept)
        self.average.steps = content["steps"]
        self.computed, self.updates, self.elapsed = content["counts"]
        print(f"goes on from {path}: {self.updates} updates in {clock(self.elapsed)}", flush=True)

    def report(self):
        """Scores of 20 pictures a class, from the same noise each time."""
        self.publish()
        state = torch.random.get_rng_state()
        for steps in ((999,), *CHAINS[:2]):
            torch.manual_seed(1)
            labels = torch.arange(data_set.CLASSES, device=self.device).repeat_interleave(20)
            found = torch.cat([self.averaged.chain(part, steps) for part in labels.split(100)])
            result = self.judge.score(found, list(range(data_set.CLASSES)))
            print(f"  {len(steps)} steps: digits {100 * result['digits']:.1f} %, clothing "
                  f"{100 * result['clothing']:.1f} %, Frechet {result['frechet']:.1f}", flush=True)
        torch.random.set_rng_state(state)

    def run(self):
        options = self.options
        self.resume()
        stopped = []
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, lambda *_: stopped.append(True))
        budget = 60 * options.minutes
        start = time.perf_counter() - self.elapsed
        shown = saved = judged = time.perf_counter()
        total, count, self.due, progress = 0.0, 0, 0.0, self.elapsed / budget
        if options.workers:
            self.start_workers()
        while progress < 1 and not stopped:
            self.gather(progress)
            rate = options.rate * rate_factor(self.updates, options.warm_up, progress)
            total = total + self.update(rate)
            count += 1
            if self.device.type == "cuda" and self.updates % 20 == 0:
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.elapsed = now - start
            progress = self.elapsed / budget
            if now - shown > 20 or progress >= 1:
                print(f"update {self.updates:6d}  trajectories {self.computed:6d}  "
                      f"loss {float(total) / count:.4f}  elapsed {clock(self.elapsed)}  "
                      f"left {clock(max(budget - self.elapsed, 0))}", flush=True)
                total, count, shown = 0.0, 0, now
            if now - saved > 60:
                self.save()
                saved = now
            if self.judge and (now - judged > 60 * options.judge_every):
                self.report()
                judged = now
        self.save()
        if self.judge and not stopped:
            self.report()
        print(f"{self.updates} updates of {options.batch} pairs and {self.computed} "
              f"trajectories in {clock(self.elapsed)}, saved in {options.output}")


def main():
    options = parse_arguments()
    torch.manual_seed(options.seed)
    distiller = Distiller(options)
    print(f"{len(distiller.trajectories.labels)} real pictures, guidance {options.guidance:g} and "
          f"{options.guidance_again:g}, on {distiller.device}", flush=True)
    distiller.run()


if __name__ == "__main__":
    main()
