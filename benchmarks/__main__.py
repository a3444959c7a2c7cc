"""Our methods beside those of captum, pytorch-grad-cam and torchcam.

``python -m benchmarks [occlusion] [gradcam] [patches] [deconvnet] [neighbours]``

Everybody runs in one process and in turns, on the same network, image and threads, after one round to warm up. Printed
are the medians, their ratios to ours, and how far each map is from ours: a fast wrong answer is no result. Memory is
measured in a process for each. The exit status is 1 where a goal is missed.
"""

from __future__ import annotations

import copy
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import captum.attr
import torch
import torch.nn.functional as F
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn
from torchcam.methods import GradCAM as TorchGradCAM
from torchvision.models.vgg import cfgs, make_layers

from helpers import activations, cam, deconvnet, models, occlusion, photos, transfer

Runs = dict[str, Callable[[], Tensor]]
Goals = dict[tuple[str, ...], float]  # from rivals to how often as fast as the fastest of them we must be
SAME = 1e-3  # largest difference of two maps of one scale


def interleaved(runs: Runs, rounds: int) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Median seconds and result of each; the order turns with every round."""
    results = {name: run() for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for _ in range(rounds):
        for name in order:
            begin = time.perf_counter()
            runs[name]()
            seconds[name].append(time.perf_counter() - begin)
        order.append(order.pop(0))
    return {name: statistics.median(times) for name, times in seconds.items()}, results


def report(title: str, runs: Runs, goals: Goals, rounds: int, same: float = SAME) -> bool:
    """Run, print, and say whether all maps are the same and every goal is reached."""
    medians, results = interleaved(runs, rounds)
    print(f"\n{title}: median of {rounds} rounds")
    print(f"  {'':24}{'seconds':>10}{'/ ours':>8}{'difference':>12}")
    good = True
    for name, median in medians.items():
        difference = (results[name] - results["ours"]).abs().max().item() / results["ours"].abs().max().item()
        print(f"  {name:24}{median:10.4f}{median / medians['ours']:8.2f}{difference:12.1e}")
        if not difference <= same:
            print(f"  ANOTHER RESULT: {name}")
            good = False
    for rivals, factor in goals.items():
        fastest = min(rivals, key=medians.get)
        ratio = medians[fastest] / medians["ours"]
        good &= ratio >= factor
        print(f"  {'reached' if ratio >= factor else 'MISSED'}: {ratio:.2f}× {fastest}; the goal is {factor:.2f}×")
    sys.stdout.flush()
    return good


def occluded(title: str, model: nn.Module, window: int, stride: int, rounds: int, goals: Goals) -> bool:
    """The drop of the predicted class's logit under a grey window."""
    image = photos.load("chelsea")
    target = int(model(image[None]).argmax())
    # The memory order is our doing: the peer gets the network as PyTorch makes it.
    by_captum = captum.attr.Occlusion(copy.deepcopy(model).to(memory_format=torch.contiguous_format))
    shape, step = (3, window, window), (3, stride, stride)
    options = {"sliding_window_shapes": shape, "strides": step, "baselines": 0.5, "target": target}

    def captum_map(together: int) -> Tensor:
        with torch.no_grad():
            return by_captum.attribute(image[None], perturbations_per_eval=together, **options)[0, 0]

    def ours() -> Tensor:
        return occlusion.sensitivity(model, image, target, window=window, stride=stride, score="logit").heatmap

    runs = {"ours": ours, "captum": lambda: captum_map(1)}
    runs |= {f"captum, {count} at a time": lambda count=count: captum_map(count) for count in (8, 16, 32)}
    return report(f"Occlusion, {title}, window {window} px, stride {stride} px", runs, goals, rounds)


def gradcam(title: str, model: nn.Module, layer: str, rounds: int) -> bool:
    """Grad-CAM at image size, scaled to [0, 1] for all, because pytorch-grad-cam returns no other."""
    image = photos.load("chelsea")
    module = model.get_submodule(layer)
    target = next(c for c in range(1000) if cam.gradcam(model, image, c, layer=layer).max() > 0)
    by_captum, by_torchcam = captum.attr.LayerGradCam(model, module), TorchGradCAM(model, module)
    by_torchcam.disable_hooks()  # but in its own turn

    def scaled(small: Tensor) -> Tensor:
        heatmap = F.interpolate(small[None, None], size=image.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        low, high = heatmap.aminmax()
        return (heatmap - low) / (high - low)

    def captum_map() -> Tensor:
        maps = by_captum.attribute(image[None], target=target, relu_attributions=True)
        return scaled(maps[0, 0].detach())

    def torchcam_map() -> Tensor:
        by_torchcam.enable_hooks()
        maps = by_torchcam(target, model(image[None]), normalized=False)
        by_torchcam.disable_hooks()
        return scaled(maps[0][0])

    def gradcam_map() -> Tensor:
        with GradCAM(model=model, target_layers=[module]) as by_gradcam:
            return torch.from_numpy(by_gradcam(image[None], [ClassifierOutputTarget(target)])[0])

    def ours() -> Tensor:
        return scaled(cam.gradcam(model, image, target, layer=layer, upsample=False))

    runs = {"ours": ours, "captum": captum_map, "torchcam": torchcam_map, "pytorch-grad-cam": gradcam_map}
    goals = {("pytorch-grad-cam",): 2.5, ("captum", "torchcam"): 1 / 1.1}
    try:
        return report(f"Grad-CAM, {title}, layer {layer}", runs, goals, rounds)
    finally:
        by_torchcam.remove_hooks()


def patches(title: str, model: nn.Sequential, layer: str, size: int, rounds: int) -> bool:
    """The best nine of 96 images for each channel, beside the truncated forward pass and a maximum alone."""
    batches = torch.rand(96, 3, size, size, generator=torch.Generator().manual_seed(0)).split(32)
    names = [name for name, _ in model.named_children()]
    below = nn.Sequential(*list(model)[: names.index(layer) + 1])

    def ours() -> Tensor:
        return activations.top_patches(model, layer, batches, k=9).values

    @torch.no_grad()
    def bare() -> Tensor:
        return torch.cat([below(batch).flatten(2).amax(2) for batch in batches]).topk(9, dim=0).values.T

    goals = {("truncated forward pass",): 1 / 1.15}
    runs = {"ours": ours, "truncated forward pass": bare}
    return report(f"Top patches, {title} to layer {layer}, {size} px", runs, goals, rounds)


class Flat(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images).flatten(1)


def reconstructed(who: str) -> float:
    """Megabytes that a reconstruction from VGG-16's last pool adds to the process, batch 8 at 224 px."""
    torch.manual_seed(0)
    model, images = make_layers(cfgs["D"]).eval(), torch.rand(8, 3, 224, 224)  # no head: its weights would be the peak
    before = _resident("VmRSS")
    if who == "ours":
        deconvnet.reconstruct(model, images, "30", 5, (3, 3))
    else:
        captum.attr.Deconvolution(Flat(model)).attribute(images.requires_grad_(), target=5 * 49 + 3 * 7 + 3)
    return _resident("VmHWM") - before


def _resident(kind: str) -> float:
    """Megabytes, now or at the peak. (getrusage's peak is that of the parent where this was larger.)"""
    return float(re.search(rf"{kind}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def memory(goal: float) -> bool:
    """Our walk back beside captum's, which keeps every activation."""
    code = "import sys, benchmarks.__main__ as b; print(b.reconstructed(sys.argv[1]))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    added = {}
    for who in ("ours", "captum"):
        command = [sys.executable, "-W", "ignore", "-c", code, who]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        added[who] = float(run.stdout)
    ratio = added["ours"] / added["captum"]
    print("\nDeconvnet, VGG-16, layer 30, batch 8 at 224 px: memory added, megabytes")
    for who, megabytes in added.items():
        print(f"  {who:24}{megabytes:10.0f}")
    print(f"  {'reached' if ratio <= goal else 'MISSED'}: {ratio:.2f}× captum; the goal is {goal:.2f}×")
    return ratio <= goal


def neighbours(length: int, goal: float, rounds: int) -> bool:
    """The ten nearest of 20,000 features to each of 2,000, by cosine.

    Both spend most of their time on the product of the two matrices, the more so the longer the features are.
    """
    random = torch.Generator().manual_seed(0)
    gallery, query = (torch.randn(count, length, generator=random) for count in (20_000, 2_000))

    def theirs() -> Tensor:
        search = NearestNeighbors(n_neighbors=10, metric="cosine").fit(gallery.numpy())
        return torch.from_numpy(search.kneighbors(query.numpy(), return_distance=False))

    runs = {"ours": lambda: transfer.nearest(query, gallery, 10).index, "scikit-learn": theirs}
    title = f"Neighbours, 2,000 of 20,000, {length} numbers each, ids"
    return report(title, runs, {("scikit-learn",): goal}, rounds, same=0)


def main(chosen: list[str]) -> int:
    torch.manual_seed(0)
    os.environ["TQDM_DISABLE"] = "1"
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads, captum {captum.__version__}")
    lite0 = models.load(device="cpu")
    alexnet, resnet50 = torchvision.models.alexnet().eval(), torchvision.models.resnet50().eval()
    batched = tuple(f"captum, {count} at a time" for count in (8, 16, 32))
    good = True
    if "occlusion" in chosen:
        good &= occluded("AlexNet", alexnet, 16, 16, 5, {("captum",): 2.5, batched: 1.2})
        good &= occluded("EfficientNet-Lite0", lite0, 32, 16, 5, {("captum",): 1.5, batched: 1.5})
    if "gradcam" in chosen:
        good &= gradcam("AlexNet", alexnet, "features.11", 21)
        good &= gradcam("ResNet-50", resnet50, "layer4", 21)
        good &= gradcam("EfficientNet-Lite0", lite0, "network.bn2", 21)
    if "patches" in chosen:
        good &= patches("VGG-16", make_layers(cfgs["D"]).eval(), "22", 64, 5)
        good &= patches("lecturenet", models.load("lecturenet", device="cpu").network, "relu5", 128, 7)
    if "deconvnet" in chosen:
        good &= memory(0.5)
    if "neighbours" in chosen:
        good &= neighbours(512, 1.5, 5)
        good &= neighbours(1280, 1.2, 5)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["occlusion", "gradcam", "patches", "deconvnet", "neighbours"]))
