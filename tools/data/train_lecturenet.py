"""Train the book's small network, ``lecturenet``, in three steps, and judge it.

    python tools/data/train_lecturenet.py hints FOLDER FOLDER         # 1. from photographs without labels
    python tools/data/train_lecturenet.py teacher GROCERIES           # 2. a teacher that knows the groceries
    python tools/data/train_lecturenet.py student GROCERIES           # 3. what ships
    python tools/data/train_lecturenet.py judge GROCERIES             # top 1, overall and for each class

1. **Hints.** The first layer starts from k-means on whitened patches (Coates & Ng 2012). On random crops, half of them
   mixed in pairs (Zhang et al. 2018), the network learns what EfficientNet-Lite0 says about the same pixels: its
   probabilities, summed over the twenty groups of ``imagenet_groups.py``; its thousand probabilities, from a linear
   layer that is thrown away afterwards; and, through 1×1 convolutions that are thrown away too, its feature maps at
   strides 8 and 16 and its pooled features (hints, Romero et al. 2015).
2. **Teacher.** EfficientNet-Lite0 gets new outputs, the coarse classes of the Grocery Store Dataset (Klasson et al.
   2019), and is fine-tuned from stride 16 on, on the photographs of ``train.txt``.
3. **Student.** The network of step 1, with new outputs and its batch norms put back, learns from the new teacher as it
   did from the old one, on the same photographs (function matching, Beyer et al. 2022). No label is used here.

Batch norms are folded away in what is written: convolution, bias, ReLU and max pool. The filters that the first layer
started from in step 1 are written beside it, because chapter 2 compares with them.

Every step can be stopped at any time; the same command goes on from the last saved state.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from imagenet_groups import GROUPS, members
from PIL import Image
from safetensors.torch import save_file
from scipy.stats import binomtest
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.transforms import v2
from tqdm.auto import tqdm

from helpers import layers, models, runtime

SHORT_SIDE = 288  # of the photographs without labels, in pixels
SIZE = 160  # of their crops
GROCERY_SHORT_SIDE, GROCERY_SIZE = 176, 128
TEST_SIZE = 160  # the photographs in the package have this side; things look larger in random crops than in whole ones
MAPS = {"relu2": ("blocks.2", 40), "relu4": ("blocks.4", 112)}  # student's layer → teacher's, of the same map size
POOLED = ("global_pool", 1280)
FROZEN = ("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")  # of the teacher: up to stride 8
TEMPERATURE = 2.0  # of the probabilities in step 3
BUILD = Path("_build/lecturenet")


def read(files: Iterable[Path], short_side: int) -> list[Tensor]:
    """The photographs as uint8 tensors (3, H, W), their shorter side at most ``short_side``."""
    photographs = []
    for file in tqdm(files, "reading", unit="photo"):
        image = Image.open(file).convert("RGB")
        scale = short_side / min(image.size)
        if scale < 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        photographs.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())
    return photographs


def groceries(folder: Path, split: str, short_side: int) -> tuple[list[Tensor], Tensor]:
    """The photographs of ``train``, ``val`` or ``test`` as the authors split them, and their coarse classes (N,)."""
    rows = [line.split(", ") for line in (folder / f"{split}.txt").read_text().splitlines()]
    return read([folder / row[0] for row in rows], short_side), torch.tensor([int(row[2]) for row in rows])


def coarse_classes(folder: Path) -> list[str]:
    """The names of the coarse classes, in the order of their numbers."""
    with (folder / "classes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = {int(row["Coarse Class ID (int)"]): row["Coarse Class Name (str)"] for row in rows}
    return [names[number] for number in range(len(names))]


def draw(photographs: list[Tensor], count: int, size: int, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random crops, (count, 3, size, size), half of them mirrored, brightness and contrast changed; whose they are."""
    crops, chosen = [], random.integers(len(photographs), size=count)
    for number in chosen:
        photo = photographs[number]
        height, width = photo.shape[1:]
        area, ratio = random.uniform(0.2, 1) * height * width, np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        tall, wide = min(height, round((area / ratio) ** 0.5)), min(width, round((area * ratio) ** 0.5))
        top, left = random.integers(height - tall + 1), random.integers(width - wide + 1)
        crop = v2.functional.resized_crop(photo, int(top), int(left), tall, wide, [size, size], antialias=True) / 255
        crop = crop.flip(2) if random.random() < 0.5 else crop
        gain, shift = random.uniform(0.7, 1.3), random.uniform(-0.1, 0.1)
        crops.append(((crop - 0.5) * gain + 0.5 + shift).clamp(0, 1))
    return torch.stack(crops), torch.from_numpy(chosen)


def mix(values: Tensor, random: np.random.Generator) -> Tensor:
    """The first half blended with the second half, each pair in its own proportion; the second half as it is."""
    half = len(values) // 2
    share = torch.from_numpy(random.uniform(0, 1, (half, *[1] * (values.ndim - 1)))).float()
    return torch.cat([values[:half] * share + values[half : 2 * half] * (1 - share), values[half:]])


def start_filters(photographs: list[Tensor], count: int, kernel: int, seed: int, patches: int = 100_000) -> Tensor:
    """K-means centroids of whitened, normalised patches, (count, 3, kernel, kernel) of unit length."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(patches):
        photo = photographs[random.integers(len(photographs))]
        top, left = (int(random.integers(side - kernel + 1)) for side in photo.shape[1:])
        rows.append(photo[:, top : top + kernel, left : left + kernel].flatten())
    rows = torch.stack(rows).double() / 255
    rows = rows - rows.mean(1, keepdim=True)
    rows = rows / (rows.var(1, keepdim=True) + 0.01).sqrt()
    values, vectors = torch.linalg.eigh(rows.T.cov())
    rows = (rows - rows.mean(0)) @ (vectors / (values + 0.1).sqrt()) @ vectors.T
    rows = F.normalize(rows, dim=1).float()
    centroids = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed).fit(rows.numpy()).cluster_centers_
    return F.normalize(torch.from_numpy(centroids), dim=1).view(count, 3, kernel, kernel)


class Training(nn.Module):
    """The student with all that hangs on it during training.

    Parameters
    ----------
    classes
        Outputs of the student.
    others
        Outputs of a second linear layer, or 0 for none.
    """

    def __init__(self, classes: int, others: int = 0) -> None:
        super().__init__()
        student = models.LectureNet(classes, batch_norm=True)
        widths = {f"relu{number}": width for number, width in enumerate(student.WIDTHS, start=1)}
        self.student = models.Classifier(student, name="lecturenet")
        self.adapters = nn.ModuleDict(
            {layer: nn.Conv2d(widths[layer], channels, 1) for layer, (_, channels) in MAPS.items()}
        )
        self.pooled = nn.Linear(student.WIDTHS[-1], POOLED[1])
        self.others = nn.Linear(student.WIDTHS[-1], others) if others else None
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        with layers.record(self.student, [*MAPS, "flatten"]) as seen:
            said = {"classes": self.student(images.contiguous(memory_format=torch.channels_last))}
        said |= {layer: adapter(seen[layer]) for layer, adapter in self.adapters.items()}
        if self.others is not None:
            said["others"] = self.others(seen["flatten"])
        return said | {"pooled": self.pooled(seen["flatten"])}


class Teacher:
    """What an EfficientNet-Lite0 says: its probabilities, and its hints, standardised per channel.

    Parameters
    ----------
    classifier
        The network.
    images
        (N, 3, H, W): the hints are brought to mean 0 and standard deviation 1 on them.
    temperature
        By which the logits are divided.
    membership
        (its classes, groups) of zeros and ones: the probabilities are summed over groups, and those of the classes
        themselves asked for besides.
    floor
        Is added to the standard deviations, lest a channel that is hardly ever active outweighs the others.
    """

    def __init__(
        self,
        classifier: nn.Module,
        images: Tensor,
        *,
        temperature: float = 1.0,
        membership: Tensor | None = None,
        floor: float = 1e-3,
    ) -> None:
        self.network = layers.fold_batch_norm(classifier, images[:1]).to(memory_format=torch.channels_last)
        self.temperature, self.membership = temperature, membership
        _, hints = self.look(images)
        self.scale = {}
        for name, hint in hints.items():
            dims = [dim for dim in range(hint.ndim) if dim != 1]
            self.scale[name] = hint.mean(dims, keepdim=True), hint.std(dims, keepdim=True) + floor

    @torch.no_grad()
    def look(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits and hints as they are."""
        with layers.record(self.network, [*(layer for layer, _ in MAPS.values()), POOLED[0]]) as seen:
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        hints = {layer: seen[theirs] for layer, (theirs, _) in MAPS.items()}
        return logits, hints | {"pooled": seen[POOLED[0]].flatten(1)}

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        logits, hints = self.look(images)
        probabilities = (logits / self.temperature).softmax(1)
        said = {"classes": probabilities}
        if self.membership is not None:
            said = {"classes": probabilities @ self.membership, "others": probabilities}
        return said | {name: (hint - self.scale[name][0]) / self.scale[name][1] for name, hint in hints.items()}


def distance(said: dict[str, Tensor], wanted: dict[str, Tensor], temperature: float = 1.0) -> dict[str, Tensor]:
    """Divergence from the teacher's probabilities, mean squared error of its hints.

    The divergence is multiplied by the square of the temperature, so that its gradients keep their size (Hinton et al.
    2015).
    """
    result = {}
    for name, value in wanted.items():
        if name in ("classes", "others"):
            logs, target = (said[name] / temperature).log_softmax(1), value.clamp_min(1e-9).log()
            result[name] = temperature**2 * F.kl_div(logs, target, log_target=True, reduction="batchmean")
        else:
            result[name] = F.mse_loss(said[name], value)
    return result


def write(student: models.Classifier, start: Tensor, categories: list[str], path: Path) -> None:
    """The student in half precision, batch norms folded, with its categories and the first layer's start."""
    network, plain = student.network, models.LectureNet(len(categories))
    for number in range(1, len(plain.WIDTHS) + 1):
        convolution, norm = (network.get_submodule(f"{kind}{number}") for kind in ("conv", "norm"))
        plain.get_submodule(f"conv{number}").load_state_dict(fuse_conv_bn_eval(convolution, norm).state_dict())
    plain.classes.load_state_dict(network.classes.state_dict())
    state = {name: tensor.half().contiguous() for name, tensor in (plain.state_dict() | {"start": start}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={"categories": json.dumps(categories)})


@torch.no_grad()
def put_norms_back(student: models.Classifier, folded: models.Classifier, images: Tensor) -> None:
    """Give the student the convolutions of ``folded``, and batch norms that change nothing at first.

    Their statistics are those of the images, (N, 3, H, W). The student's last layer stays as it is.
    """
    names = [f"conv{number}" for number in range(1, len(models.LectureNet.WIDTHS) + 1)]
    with layers.record(folded, names) as seen:
        folded(images)
    for name in names:
        convolution = folded.network.get_submodule(name)
        norm = student.network.get_submodule(name.replace("conv", "norm"))
        student.network.get_submodule(name).weight.copy_(convolution.weight)
        response = seen[name].transpose(0, 1).flatten(1)  # (C, N·h·w), with the bias
        norm.running_mean.copy_(response.mean(1) - convolution.bias)
        norm.running_var.copy_(response.var(1))
        norm.bias.copy_(response.mean(1))
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())


def run(
    training: nn.Module,
    losses: Callable[[np.random.Generator], dict[str, Tensor]],
    report: Callable[[], dict[str, float]],
    options: argparse.Namespace,
    *,
    careful: Iterable[nn.Parameter] = (),
) -> None:
    """Minimise the sum of the losses with AdamW: a short rise of the rate, then a cosine down to 0.

    ``careful`` parameters learn at a tenth of the rate. The generator that ``losses`` draws from depends on the step
    alone, so that a run that goes on draws what it would have drawn. ``report`` writes results and returns scores.
    """
    careful = set(careful)
    groups = [{"params": [], "share": 1.0}, {"params": [], "share": 0.1}]
    for parameter in training.parameters():
        if parameter.requires_grad:
            groups[parameter in careful]["params"].append(parameter)
    optimiser = torch.optim.AdamW(groups, weight_decay=0.02)
    saved, log = options.state / "state.pt", options.state / "log.jsonl"
    options.state.mkdir(parents=True, exist_ok=True)
    step, seconds = 0, 0.0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        training.load_state_dict(state["training"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]
        print(f"going on from step {step} in {saved}", flush=True)
    begin = time.perf_counter() - seconds
    bar = tqdm(total=options.steps, initial=step, desc="training", unit="step", mininterval=10)
    while step < options.steps:
        parts = losses(np.random.default_rng([options.seed, 2, step]))
        rise, fall = (step + 1) / max(1, options.steps // 20), 0.5 + 0.5 * math.cos(math.pi * step / options.steps)
        for group in optimiser.param_groups:
            group["lr"] = options.rate * group["share"] * min(rise, fall)
        optimiser.zero_grad()
        sum(parts.values()).backward()
        nn.utils.clip_grad_norm_(training.parameters(), 5.0)
        optimiser.step()
        step += 1
        bar.update()
        if step % options.every == 0 or step == options.steps:
            with layers.evaluating(training):
                scores = report()
            seconds = time.perf_counter() - begin
            line = {"step": step, "seconds": round(seconds)}
            line |= {name: round(value.item(), 3) for name, value in parts.items()}
            line |= {name: round(value, 3) for name, value in scores.items()}
            with log.open("a") as file:
                print(json.dumps(line), file=file)
            tqdm.write(json.dumps(line))
            state = {"training": training.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save(state | {"step": step, "seconds": seconds}, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)
    bar.close()


def named(network: nn.Module, photographs: list[Tensor]) -> Tensor:
    """The class of each photograph, (N,): whole, the shorter side TEST_SIZE pixels, the central square."""
    squares = torch.stack([v2.functional.center_crop(photo, [TEST_SIZE] * 2) for photo in photographs])
    with layers.evaluating(network):
        return torch.cat([network(part / 255).argmax(1) for part in squares.split(64)])


def grocery_network(classes: int) -> models.Classifier:
    """EfficientNet-Lite0 with new outputs, which begin at zero, and its first layers frozen."""
    classifier = models.load(device="cpu")
    classifier.network.classifier = nn.Linear(POOLED[1], classes)
    nn.init.zeros_(classifier.network.classifier.weight)
    for name in FROZEN:
        classifier.network.get_submodule(name).requires_grad_(False)
    return classifier


def train_on_hints(options: argparse.Namespace) -> None:
    """Step 1: from photographs without labels."""
    files = sorted(
        f for folder in options.folders for f in folder.rglob("*") if f.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if len(files) < 10:
        sys.exit(f"only {len(files)} photographs in {', '.join(map(str, options.folders))}; at least 10 are needed.")
    order = np.random.default_rng(options.seed).permutation(len(files))
    held = round(options.held_out * len(files))
    photographs, held_out = (read([files[i] for i in part], SHORT_SIDE) for part in (order[held:], order[:held]))
    membership = torch.zeros(1000, len(GROUPS))
    for group, classes in enumerate(members()):
        membership[classes, group] = 1

    training = Training(len(GROUPS), others=1000)
    few = draw(photographs, 256, SIZE, np.random.default_rng([options.seed, 1]))[0]
    teacher = Teacher(models.load(device="cpu"), few, membership=membership)
    conv1 = training.student.network.conv1.weight
    start = start_filters(photographs, len(conv1), conv1.shape[-1], options.seed)
    with torch.no_grad():
        conv1.copy_(start * conv1.norm() / start.norm())
    unseen = draw(held_out, 2 * len(held_out), SIZE, np.random.default_rng([options.seed, 3]))[0]
    best = teacher(unseen)["classes"].argmax(1)

    def losses(random: np.random.Generator) -> dict[str, Tensor]:
        crops = mix(draw(photographs, options.batch, SIZE, random)[0], random)
        return distance(training(crops), teacher(crops))

    def report() -> dict[str, float]:
        write(training.student, start, list(GROUPS), options.output)
        return {"agrees": (training.student(unseen).argmax(1) == best).float().mean().item()}

    training.train()
    run(training, losses, report, options)


def train_teacher(options: argparse.Namespace) -> None:
    """Step 2."""
    photographs, labels = groceries(options.folder, "train", GROCERY_SHORT_SIDE)
    held_out, truth = groceries(options.folder, "val", TEST_SIZE)
    categories = coarse_classes(options.folder)
    network = grocery_network(len(categories))  # in evaluation mode: batch norms keep ImageNet's statistics

    def losses(random: np.random.Generator) -> dict[str, Tensor]:
        crops, chosen = draw(photographs, options.batch, GROCERY_SIZE, random)
        wanted = F.one_hot(labels[chosen], len(categories)).float()
        both = mix(torch.cat([crops.flatten(1), wanted], 1), random)  # pixels and labels in the same proportion
        crops, wanted = both[:, : -len(categories)].view_as(crops), both[:, -len(categories) :]
        crops = crops.contiguous(memory_format=torch.channels_last)
        return {"classes": F.cross_entropy(network(crops), wanted, label_smoothing=0.1)}

    def report() -> dict[str, float]:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.network.state_dict(), options.output)
        return {"right": (named(network, held_out) == truth).float().mean().item()}

    head = network.network.classifier
    run(network, losses, report, options, careful=set(network.parameters()) - set(head.parameters()))


def train_student(options: argparse.Namespace) -> None:
    """Step 3."""
    photographs, _ = groceries(options.folder, "train", GROCERY_SHORT_SIDE)
    held_out, truth = groceries(options.folder, "val", TEST_SIZE)
    categories = coarse_classes(options.folder)
    few = draw(photographs, 256, GROCERY_SIZE, np.random.default_rng([options.seed, 1]))[0]
    taught = grocery_network(len(categories))
    taught.network.load_state_dict(torch.load(options.teacher, weights_only=True))
    teacher = Teacher(taught, few, temperature=TEMPERATURE, floor=0.1)
    training, first = Training(len(categories)), models.load("lecturenet", weights=options.first, device="cpu")
    put_norms_back(training.student, first, few)

    def losses(random: np.random.Generator) -> dict[str, Tensor]:
        crops = mix(draw(photographs, options.batch, GROCERY_SIZE, random)[0], random)
        with torch.autocast("cpu", torch.bfloat16):  # half the time, on CPUs that know it
            said, wanted = training(crops), teacher(crops)
        said, wanted = ({name: value.float() for name, value in part.items()} for part in (said, wanted))
        return distance(said, wanted, TEMPERATURE)

    def report() -> dict[str, float]:
        write(training.student, first.network.start, categories, options.output)
        return {"right": (named(training.student, held_out) == truth).float().mean().item()}

    training.train()
    run(training, losses, report, options, careful=[training.student.network.conv1.weight])


def judge(options: argparse.Namespace) -> None:
    """Print the share of photographs that are named right, overall and for each class, as a Markdown table."""
    model = models.load("lecturenet", weights=options.weights, device="cpu")
    photographs, labels = groceries(options.folder, options.split, TEST_SIZE)
    classes = named(model, photographs)
    hits, rows, shares = classes == labels, [], []
    for number, name in enumerate(model.categories):
        said = classes[labels == number]
        if len(said):
            shares.append((said == number).float().mean().item())
            wrong = said[said != number].bincount(minlength=len(model.categories))
            rival = f"{model.categories[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
            rows.append(f"| {name} | {len(said)} | {shares[-1]:.0%} | {rival} |")
    low, high = binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    print(f"{options.split}: {hits.sum()} of {len(hits)} right, {hits.float().mean():.3f} ({low:.3f} to {high:.3f});")
    print(f"mean of the classes {np.mean(shares):.3f}\n")
    print("| class | photographs | right | most often mistaken for |\n|---|--:|--:|---|", *rows, sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    folder = BUILD
    for name, function, steps, rate, every, output in [
        ("hints", train_on_hints, 2300, 2e-3, 200, folder / "hints.safetensors"),
        ("teacher", train_teacher, 400, 3e-3, 80, folder / "teacher.pt"),
        ("student", train_student, 5000, 1.5e-3, 250, models.LECTURENET),
    ]:
        command = commands.add_parser(name, help=function.__doc__)
        if name == "hints":
            command.add_argument("folders", nargs="+", type=Path, help="folders of .jpg or .png photographs")
            command.add_argument("--held-out", type=float, default=0.1, help="share of them kept for measuring")
        else:
            command.add_argument("folder", type=Path, help="of the Grocery Store Dataset")
        if name == "student":
            command.add_argument("--first", type=Path, default=folder / "hints.safetensors", help="weights of step 1")
            command.add_argument("--teacher", type=Path, default=folder / "teacher.pt", help="weights of step 2")
        command.add_argument("--steps", type=int, default=steps)
        command.add_argument("--batch", type=int, default=32, help="crops in a step")
        command.add_argument("--rate", type=float, default=rate, help="largest learning rate")
        command.add_argument("--every", type=int, default=every, help="measure and save after so many steps")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--state", type=Path, default=folder / name, help="folder for the run's state and log")
        command.add_argument("--output", type=Path, default=output)
        command.set_defaults(function=function)
    command = commands.add_parser("judge", help=judge.__doc__)
    command.add_argument("folder", type=Path, help="of the Grocery Store Dataset")
    command.add_argument("--weights", type=Path, default=models.LECTURENET)
    command.add_argument("--split", choices=("train", "val", "test"), default="test")
    command.set_defaults(function=judge, seed=0)
    options = parser.parse_args()
    runtime.seed(options.seed)
    options.function(options)


if __name__ == "__main__":
    main()
