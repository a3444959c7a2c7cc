"""The demo of chapter 6: noise and samples."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import fold_batch_norm
from ..models import Classifier
from ..saliency import gradient, smoothgrad
from ..scoring import rank_correlation
from .widget import Control, Demo, Frame, Report, Row, Scene, heat, photo


def show(model: Classifier, image: Tensor, target: int | None = None) -> Demo:
    """The raw gradient, and SmoothGrad with more and more noise and samples."""
    levels, counts = (0.05, 0.15, 0.4), (1, 5, 25)

    def compute(picture: Tensor, report: Report) -> Scene:
        fast = fold_batch_norm(model, picture[None]).to(memory_format=torch.channels_last)  # a fifth quicker
        clean = fast(picture[None])[0].detach()
        chosen = target if target is not None and picture is image else int(clean.argmax())
        name, whole = model.label(chosen), clean.softmax(0)[chosen].item()
        raw = gradient(fast, picture, chosen).cpu()
        random, pale = torch.Generator().manual_seed(0), photo(picture, pale=True)
        plain = {"the map": "the raw map", "a noisy copy": "the photograph"}  # what is shown without noise
        frames = []
        for number, noise in enumerate((0.0, *levels)):
            report(f"Noise {noise:.2f}, {number + 1} of {1 + len(levels)} …")
            parts = zip(counts, (0, *counts)) if noise else [(1, 0)]  # each sample is computed once
            steps, total = {}, torch.zeros_like(picture)
            for count, before in parts:
                new = count - before
                total = total + new * smoothgrad(
                    fast, picture, chosen, samples=new, noise=noise, seed=count, signed=True, batch_size=4
                )
                steps[count] = (total / count).abs().amax(0).cpu()
            jitter = torch.randn(4 if noise else 1, *picture.shape, generator=random).to(picture)
            noisy = picture + noise * (picture.max() - picture.min()) * jitter
            with torch.no_grad():
                kept = fast(noisy).softmax(1)[:, chosen].mean().item()
            seen = photo(noisy[0])
            for count, shown in product(counts, plain):
                heatmap = steps.get(count, steps[1])
                likeness = abs(rank_correlation(heatmap, raw))
                rows = [
                    Row(f"{name} in the copies", f"{kept:.2f}", kept, whole),
                    Row("like the raw map", f"{likeness:.2f}", likeness),
                ]
                samples = f"{count} {'sample' if count == 1 else 'samples'}"
                says = f"Noise {noise:.2f}, {samples}: {shown}." if noise else f"Noise none, {samples}: {plain[shown]}."
                says += f" Rank correlation with the raw map {likeness:.2f}; {name} {kept:.2f} in the copies."
                if shown == "the map":
                    drawn = F.avg_pool2d(heatmap[None], 2)[0]  # single pixels cannot be seen, and weigh much
                    limits = (0, drawn.flatten().quantile(0.99).item())
                    frames.append(
                        Frame(heat(drawn, limits), rows, says, f"Saliency map for {name} over the photograph.", pale)
                    )
                else:
                    frames.append(Frame(seen, rows, says, "The photograph with noise, as the network gets it."))
        return Scene(
            title="noise and samples",
            caption="Add noise, then samples. Does the map come nearer to the raw one? And does the network still "
            "recognise the copies? The line is the probability for the photograph itself.",
            heading="Numbers of this map",
            controls=[
                Control("Noise", ["none", *(f"{level:.2f}" for level in levels)]),
                Control("Samples", [str(count) for count in counts]),
                Control("Show", list(plain), "buttons"),
            ],
            frames=frames,
            start=(2, 2, 0),
        )

    return Demo(compute, image, size=image.shape[-1])
