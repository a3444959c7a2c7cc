"""Our methods beside those of captum, pytorch-grad-cam and torchcam: ``python -m benchmarks [occlusion] [gradcam]``.

Everybody runs in one process and in turns, on the same network, image and threads, after one round to warm up. Printed
are the medians, their ratios to ours, and how far each map is from ours: a fast wrong answer is no result. The exit
status is 1 where a goal is missed.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable

import captum.attr
import torch
import torch.nn.functional as F
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam.methods import GradCAM as TorchGradCAM

from helpers import cam, models, occlusion, photos

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


def report(title: str, runs: Runs, goals: Goals, rounds: int) -> bool:
    """Run, print, and say whether all maps are the same and every goal is reached."""
    medians, results = interleaved(runs, rounds)
    print(f"\n{title}: median of {rounds} rounds")
    print(f"  {'':24}{'seconds':>10}{'/ ours':>8}{'difference':>12}")
    good = True
    for name, median in medians.items():
        difference = (results[name] - results["ours"]).abs().max().item() / results["ours"].abs().max().item()
        print(f"  {name:24}{median:10.4f}{median / medians['ours']:8.2f}{difference:12.1e}")
        if not difference <= SAME:
            print(f"  ANOTHER MAP: {name}")
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
    by_captum = captum.attr.Occlusion(model)
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
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["occlusion", "gradcam"]))
