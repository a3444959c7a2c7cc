"""Train the book's small network, ``lecturenet``, on any folders of photographs.

    python tools/train_lecturenet.py FOLDER... --test FOLDER --steps 3000

The photographs need no labels: EfficientNet-Lite0 is the teacher. Every step draws crops, mixes half of them in pairs
(Zhang et al. 2018), and asks the student for what the teacher says about the same pixels (Beyer et al. 2022):

- the teacher's probabilities, summed over the twenty groups of ``groups.py``: the student's own twenty outputs;
- its thousand probabilities, from a linear layer that is thrown away afterwards;
- hints (Romero et al. 2015): its feature maps at strides 8 and 16, and its pooled features, through 1×1 convolutions
  that are thrown away too.

The first layer starts from k-means on whitened patches (Coates & Ng 2012). Batch norms are folded away at the end, so
that what is written is convolution, bias, ReLU and max pool; the filters that the first layer started from are written
beside it, because chapter 2 compares with them.

A run can be stopped at any time; the same command goes on from the last saved step.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from groups import GROUPS, members
from PIL import Image
from safetensors.torch import save_file
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.transforms import v2
from tqdm.auto import tqdm

from helpers import layers, models, runtime

SHORT_SIDE = 288  # photographs are kept at this size
SIZE = 160  # training crops
TEST_SIZE = 224
MAPS = {"relu2": "blocks.2", "relu4": "blocks.4"}  # student's layer → teacher's layer with maps of the same size
POOLED = "global_pool"


def read(files: list[Path]) -> list[Tensor]:
    """The photographs as uint8 tensors (3, H, W), their shorter side at most SHORT_SIDE."""
    photographs = []
    for file in tqdm(files, "reading", unit="photo"):
        image = Image.open(file).convert("RGB")
        scale = SHORT_SIDE / min(image.size)
        if scale < 1:
            image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
        photographs.append(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())
    return photographs


def draw(photographs: list[Tensor], count: int, random: np.random.Generator) -> Tensor:
    """``count`` random crops, half of them mirrored, some with other brightness or contrast; (N, 3, SIZE, SIZE)."""
    crops = []
    for _ in range(count):
        photo = photographs[random.integers(len(photographs))]
        height, width = photo.shape[1:]
        area, ratio = random.uniform(0.2, 1) * height * width, np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        tall, wide = min(height, round((area / ratio) ** 0.5)), min(width, round((area * ratio) ** 0.5))
        top, left = random.integers(height - tall + 1), random.integers(width - wide + 1)
        crop = v2.functional.resized_crop(photo, int(top), int(left), tall, wide, [SIZE, SIZE], antialias=True) / 255
        crop = crop.flip(2) if random.random() < 0.5 else crop
        gain, shift = random.uniform(0.7, 1.3), random.uniform(-0.1, 0.1)
        crops.append(((crop - 0.5) * gain + 0.5 + shift).clamp(0, 1))
    return torch.stack(crops)


def mix(crops: Tensor, random: np.random.Generator) -> Tensor:
    """The first half blended with the second half, each pair in its own proportion; the second half as it is."""
    half = len(crops) // 2
    share = torch.from_numpy(random.uniform(0, 1, (half, 1, 1, 1))).float()
    return torch.cat([crops[:half] * share + crops[half : 2 * half] * (1 - share), crops[half:]])


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
    """The student with all that hangs on it during training."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        student = models.LectureNet(groups, batch_norm=True)
        self.student = models.Classifier(student, name="lecturenet")
        self.thousand = nn.Linear(student.WIDTHS[-1], 1000)
        self.adapters = nn.ModuleDict({"relu2": nn.Conv2d(160, 40, 1), "relu4": nn.Conv2d(256, 112, 1)})
        self.pooled = nn.Linear(student.WIDTHS[-1], 1280)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        with layers.record(self.student, [*MAPS, "flatten"]) as seen:
            groups = self.student(images)
        hints = {name: adapter(seen[name]) for name, adapter in self.adapters.items()}
        return hints | {
            "groups": groups,
            "thousand": self.thousand(seen["flatten"]),
            "pooled": self.pooled(seen["flatten"]),
        }


class Teacher:
    """EfficientNet-Lite0: its hints, standardised per channel, and its probabilities."""

    def __init__(self) -> None:
        classifier = models.load(device="cpu")
        self.network = layers.fold_batch_norm(classifier, torch.zeros(1, 3, SIZE, SIZE))
        self.network.to(memory_format=torch.channels_last)
        self.membership = torch.zeros(1000, len(GROUPS))
        for group, classes in enumerate(members()):
            self.membership[classes, group] = 1
        self.scale: dict[str, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        with layers.record(self.network, [*MAPS.values(), POOLED]) as seen:
            logits = self.network(images.contiguous(memory_format=torch.channels_last))
        hints = {name: seen[layer] for name, layer in MAPS.items()} | {"pooled": seen[POOLED].flatten(1)}
        for name, hint in hints.items():
            dims = [dim for dim in range(hint.ndim) if dim != 1]
            if name not in self.scale:  # the first batch sets the scale
                self.scale[name] = hint.mean(dims, keepdim=True), hint.std(dims, keepdim=True) + 1e-3
            mean, std = self.scale[name]
            hints[name] = (hint - mean) / std
        probabilities = logits.softmax(1)
        return hints | {"groups": probabilities @ self.membership, "thousand": probabilities}


def losses(said: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Divergence from the teacher's probabilities, mean squared error of the hints."""
    result = {name: F.mse_loss(said[name], wanted[name]) for name in (*MAPS, "pooled")}
    for name in ("groups", "thousand"):
        result[name] = F.kl_div(
            said[name].log_softmax(1), wanted[name].clamp_min(1e-9).log(), log_target=True, reduction="batchmean"
        )
    return result


@torch.no_grad()
def measure(
    student: nn.Module, teacher: Teacher, photographs: list[Tensor], labels: list[int | None]
) -> dict[str, float]:
    """On photographs that were held out: agreement with the teacher's best group, and with the labels' groups."""
    crops = torch.stack(
        [
            v2.functional.center_crop(v2.functional.resize(p, [256], antialias=True), [TEST_SIZE] * 2)
            for p in photographs
        ]
    )
    said = torch.cat([student(part / 255) for part in crops.split(16)])
    wanted = torch.cat([teacher(part / 255)["groups"] for part in crops.split(16)])
    top3 = said.topk(3).indices
    group_of = {index: group for group, classes in enumerate(members()) for index in classes}
    known = [(row, group_of[label]) for row, label in enumerate(labels) if label is not None]
    rows, truth = (torch.tensor(column) for column in zip(*known)) if known else (torch.zeros(0, dtype=int),) * 2
    scores = {
        "photographs": len(photographs),
        "agree_top1": (top3[:, 0] == wanted.argmax(1)).float().mean().item(),
        "agree_top3": (top3 == wanted.argmax(1)[:, None]).any(1).float().mean().item(),
        "labelled": len(known),
    }
    if not known:
        return scores
    return scores | {
        "right_top1": (top3[rows, 0] == truth).float().mean().item(),
        "right_top3": (top3[rows] == truth[:, None]).any(1).float().mean().item(),
        "teacher_right_top1": (wanted[rows].argmax(1) == truth).float().mean().item(),
    }


def write(training: Training, start: Tensor, path: Path) -> None:
    """The student in half precision, batch norms folded, with its categories."""
    network, plain = training.student.network, models.LectureNet(len(GROUPS))
    for number in range(1, len(plain.WIDTHS) + 1):
        convolution, norm = (network.get_submodule(f"{kind}{number}") for kind in ("conv", "norm"))
        plain.get_submodule(f"conv{number}").load_state_dict(
            fuse_conv_bn_eval(convolution.eval(), norm.eval()).state_dict()
        )
    plain.classes.load_state_dict(network.classes.state_dict())
    state = {name: tensor.half().contiguous() for name, tensor in (plain.state_dict() | {"start": start}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata={"categories": json.dumps(list(GROUPS))})


def label_of(file: Path) -> int | None:
    """The class index that ImageNet samples carry in their names, such as ``281_tabby.jpg``."""
    first = file.stem.split("_")[0]
    return int(first) if "_" in file.stem and first.isdigit() and int(first) < 1000 else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of .jpg or .png photographs")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32, help="crops in a step")
    parser.add_argument("--every", type=int, default=200, help="measure and save after so many steps")
    parser.add_argument("--rate", type=float, default=2e-3, help="largest learning rate")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the photographs kept for measuring")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--state", type=Path, default=Path("_build/lecturenet"), help="folder for the run's state and log"
    )
    parser.add_argument("--output", type=Path, default=Path("helpers/weights/lecturenet.safetensors"))
    options = parser.parse_args()

    files = sorted(
        f for folder in options.folders for f in folder.rglob("*") if f.suffix.lower() in (".jpg", ".jpeg", ".png")
    )
    if len(files) < 10:
        sys.exit(f"only {len(files)} photographs in {', '.join(map(str, options.folders))}; at least 10 are needed.")
    runtime.seed(options.seed)
    order = np.random.default_rng(options.seed).permutation(len(files))
    held = max(1, round(options.held_out * len(files)))
    test_files, train_files = [files[i] for i in order[:held]], [files[i] for i in order[held:]]
    train, test = read(train_files), read(test_files)
    labels = [label_of(file) for file in test_files]

    training, teacher = Training(len(GROUPS)), Teacher()
    teacher(draw(train, 256, np.random.default_rng([options.seed, 1])))
    conv1 = training.student.network.conv1.weight
    optimiser = torch.optim.AdamW(training.parameters(), lr=options.rate, weight_decay=0.02)
    warm = max(1, options.steps // 20)
    saved, log = options.state / "state.pt", options.state / "log.jsonl"
    options.state.mkdir(parents=True, exist_ok=True)
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        training.load_state_dict(state["training"])
        optimiser.load_state_dict(state["optimiser"])
        step, start, seconds = state["step"], state["start"], state["seconds"]
        print(f"going on from step {step} in {saved}")
    else:
        print("first-layer filters by k-means …", flush=True)
        start = start_filters(train, len(conv1), conv1.shape[-1], options.seed)
        with torch.no_grad():
            conv1.copy_(start * conv1.norm() / start.norm())
        step, seconds = 0, 0.0
    training.train()
    begin = time.perf_counter() - seconds
    bar = tqdm(total=options.steps, initial=step, desc="training", unit="step", mininterval=10)
    while step < options.steps:
        random = np.random.default_rng([options.seed, 2, step])  # of the step alone: a run that goes on draws the same
        crops = mix(draw(train, options.batch, random), random)
        parts = losses(training(crops), teacher(crops))
        loss = sum(parts.values())
        for group in optimiser.param_groups:  # a short rise, then a cosine down to 0
            group["lr"] = options.rate * min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * step / options.steps))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(training.parameters(), 5.0)
        optimiser.step()
        step += 1
        bar.update()
        if step % options.every == 0 or step == options.steps:
            training.eval()
            scores = measure(training.student, teacher, test, labels)
            write(training, start, options.output)
            training.train()
            seconds = time.perf_counter() - begin
            line = {"step": step, "seconds": round(seconds)} | {k: round(v.item(), 3) for k, v in parts.items()}
            line |= {k: round(v, 3) for k, v in scores.items()}
            with log.open("a") as file:
                print(json.dumps(line), file=file)
            tqdm.write(json.dumps(line))
            state = {"training": training.state_dict(), "optimiser": optimiser.state_dict(), "start": start}
            state |= {"step": step, "seconds": seconds}
            torch.save(state, saved.with_suffix(".new"))
            saved.with_suffix(".new").replace(saved)
    print(f"{options.steps} steps of {options.batch} crops; written to {options.output}")


if __name__ == "__main__":
    main()
