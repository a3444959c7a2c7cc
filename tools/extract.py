"""Features and top patches of any number of photographs, by any number of processes, GPUs and machines.

    torchrun --standalone --nproc-per-node 2 tools/extract.py PHOTOGRAPHS OUT --layer blocks.4

PHOTOGRAPHS is a folder of pictures (with subfolders), or a folder of tar files with pictures in them (WebDataset's
layout). The work is cut into shards: a tar file, or 256 pictures. Each process takes its share of the shards and writes
one file for each, whole or not at all. A run that was stopped goes on where it was, with any number of processes:
give the same command again. When all shards are there, the first process writes

- ``features.npy``, one row of ``embedding.features`` for each picture, and ``names.txt``, their names in that order;
- ``top_patches.pt`` (with ``--layer``), for each channel the pictures that fire it most: ``index`` (rows of
  features.npy) and ``values``, (C, k), and ``boxes``, (C, k, 4), what the unit saw: top, left, bottom, right;
- ``broken.txt``, the files that are no pictures. They have no row.

On several machines OUT must be a folder that all of them share.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import os
import resource
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from tqdm.auto import tqdm

from helpers import activations, embedding, layers, models, photos, runtime
from helpers.reading.pictures import MAX_BYTES

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
GROUP = 8  # batches that are held together
ROOM = 10**9  # shard s counts its pictures from s * ROOM on, so that no two shards have a number in common


def shards_of(source: Path, size: int) -> list[list[str]]:
    """The shards, in an order that is the same in every process: lists of paths below ``source``."""
    files = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
    tars = [name for name in files if name.endswith(".tar")]
    pictures = [name for name in files if Path(name).suffix.lower() in PICTURES]
    if tars and pictures:
        raise ValueError(f"{source} has both pictures and tar files: give a folder with one kind.")
    if not tars and not pictures:
        raise ValueError(f"{source} has no pictures and no tar files.")
    return [[name] for name in tars] or [pictures[i : i + size] for i in range(0, len(pictures), size)]


def read(source: Path, shard: list[str]) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each picture file of a shard."""
    for name in shard:
        if not name.endswith(".tar"):
            yield name, (source / name).read_bytes()
            continue
        try:
            with tarfile.open(source / name, "r:") as archive:  # not compressed: a small file could hold a large one
                for member in archive:
                    if member.isfile() and Path(member.name).suffix.lower() in PICTURES:
                        data = archive.extractfile(member).read(MAX_BYTES + 1)  # one more is too large to decode
                        yield f"{name}/{member.name}", data
        except tarfile.TarError as error:
            raise ValueError(f"{source / name} is damaged ({error}): repair or remove it, and start again.") from error


def batches(files: Iterator[tuple[str, bytes]], size: int, count: int, broken: list[str]) -> Iterator[tuple]:
    """Names and tensors (n, 3, size, size), up to ``count`` together; what is no picture goes to ``broken``."""
    names, pictures = [], []
    for name, data in files:
        try:
            pictures.append(photos.decode(data, size, name))
            names.append(name)
        except ValueError as error:
            broken.append(str(error))
        if len(names) == count:
            yield names, torch.stack(pictures)
            names, pictures = [], []
    if names:
        yield names, torch.stack(pictures)


def extract(model: nn.Module, files: Iterator, first: int, options: argparse.Namespace) -> dict:
    """What one shard gives: names, features, the winners of each channel. Holds a few batches of pictures at a time."""
    names, rows, broken, top = [], [], [], None
    stream = batches(files, options.size, options.batch, broken)
    while group := list(itertools.islice(stream, GROUP)):
        pictures = [batch for _, batch in group]
        rows.append(embedding.features(model, pictures))
        if options.layer:
            part = activations.top_patches(model, options.layer, pictures, options.k, first=first + len(names))
            part = dataclasses.replace(part, images={})  # the pictures themselves stay where they are
            top = part if top is None else top.merge(part)
        names += [name for some, _ in group for name in some]
    found = {"names": names, "broken": broken, "features": torch.cat(rows) if rows else None}
    if top:
        found |= {"values": top.values, "index": top.index, "units": top.units}
    return found


def save(path: Path, write) -> None:
    """``write`` to a file beside ``path``, then rename it: who finds ``path`` finds it whole."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(part)
    part.replace(path)


def merge(out: Path, count: int, field: layers.ReceptiveField | None, k: int) -> int:
    """Write the results from all shards' files, one shard in memory at a time; return the number of pictures."""
    files = [out / "shards" / f"{number:07}.pt" for number in range(count)]
    names, broken, starts, width = [], [], [], 0
    for file in files:
        found = torch.load(file, weights_only=True)
        starts.append(len(names))
        names += found["names"]
        broken += found["broken"]
        width = width or (0 if found["features"] is None else found["features"].shape[1])
    save(out / "broken.txt", lambda path: path.write_text("".join(line + "\n" for line in broken)))
    if not names:
        raise ValueError(f"none of the files is a picture: {out / 'broken.txt'} says why.")
    features = np.lib.format.open_memmap(out / "features.npy.part", "w+", np.float32, (len(names), width))
    best = None
    for start, file in zip(starts, files):
        found = torch.load(file, weights_only=True)
        if found["features"] is None:
            continue
        features[start : start + len(found["features"])] = found["features"].numpy()
        if field:
            channels = torch.arange(len(found["values"]))
            rows = found["values"], found["index"] % ROOM + start, found["units"]
            part = activations.TopPatches(channels, *rows, images={}, fields={}, k=k)
            best = best.merge(part) if best else part
    features.flush()
    (out / "features.npy.part").replace(out / "features.npy")
    if best:
        boxes = torch.tensor([[field.box(*unit) for unit in row] for row in best.units.tolist()])
        top = {"values": best.values, "index": best.index, "boxes": boxes}
        save(out / "top_patches.pt", lambda path: torch.save(top, path))
    save(out / "names.txt", lambda path: path.write_text("".join(name + "\n" for name in names)))
    return len(names)


def network(options: argparse.Namespace) -> tuple[nn.Module, layers.ReceptiveField | None]:
    """The network, and what a unit of the layer sees."""
    model = models.load(options.network, device=runtime.device())
    if not options.layer:
        return model, None
    return model, layers.receptive_field(model, options.layer, (options.size, options.size))


def prepare(options: argparse.Namespace) -> tuple[list[list[str]], list[int]]:
    """All shards, and the numbers of those that are still to do. Refuses a folder that holds another run."""
    if not options.source.is_dir():
        raise ValueError(f"{options.source} is no folder.")
    shards = shards_of(options.source, options.shard)
    listing = [[name, (options.source / name).stat().st_size] for shard in shards for name in shard]
    run = {name: getattr(options, name) for name in ("network", "layer", "k", "size", "shard")}
    run["files"] = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    (options.out / "shards").mkdir(parents=True, exist_ok=True)
    note = options.out / "run.json"
    if not note.exists():
        save(note, lambda path: path.write_text(json.dumps(run, indent=1)))
    before = json.loads(note.read_text())
    if before != run:
        changed = ", ".join(key for key in run if before.get(key) != run[key])
        raise ValueError(f"{options.out} holds a run with other {changed}: take another folder, or remove this one.")
    return shards, [n for n in range(len(shards)) if not (options.out / "shards" / f"{n:07}.pt").exists()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="PHOTOGRAPHS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--network", default="efficientnet_lite0", help="any name that helpers.models.load knows")
    parser.add_argument("--layer", help="the layer whose channels get their top patches; without it, features only")
    parser.add_argument("--k", type=int, default=9, help="pictures for each channel (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of a picture in pixels (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="pictures at a time (%(default)s)")
    parser.add_argument("--shard", type=int, default=256, help="pictures in a shard of a folder (%(default)s)")
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"  # of the functions inside; there is one bar for all
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if world > 1:  # gloo on GPUs as well: what the processes tell each other is a list of numbers
        dist.init_process_group("gloo", timeout=timedelta(days=30))
    plan: list = [None, None, None]
    if rank == 0:
        try:
            model, field = network(options)  # first: a wrong name must not begin a run
            plan = [*prepare(options), None]
        except (ValueError, LookupError, OSError) as error:
            plan[2] = str(error)
    if world > 1:
        dist.broadcast_object_list(plan)
    shards, todo, problem = plan
    if problem:
        if rank == 0:
            print(problem, file=sys.stderr)
        return 1
    if rank > 0:
        model, field = network(options)
    start, done = time.perf_counter(), 0
    with tqdm(total=len(shards), initial=len(shards) - len(todo), unit="shard", disable=rank > 0) as bar:
        for number in todo[rank::world]:
            found = extract(model, read(options.source, shards[number]), number * ROOM, options)
            save(options.out / "shards" / f"{number:07}.pt", lambda path, found=found: torch.save(found, path))
            done += len(found["names"])
            if rank == 0:
                bar.update(sum(1 for _ in (options.out / "shards").glob("*.pt")) - bar.n)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    totals: list = [(done, seconds, memory)] * world
    if world > 1:
        dist.all_gather_object(totals, (done, seconds, memory))
    if rank == 0:
        count = merge(options.out, len(shards), field, options.k)
        new, slowest, most = sum(t[0] for t in totals), max(t[1] for t in totals), max(t[2] for t in totals)
        print(f"{count} pictures, {new} of them in this run: {new / slowest:.1f} a second, {world} processes, "
              f"at most {most:.0f} MB each.")  # fmt: skip
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
