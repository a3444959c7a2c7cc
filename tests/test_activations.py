"""The winners against a search through everything, their boxes against what pixels do, and what stays in memory."""

import gc
import weakref

import numpy as np
import pytest
import torch
from chapters import from_chapter
from networks import Pair, images, tiny, unchanged
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from helpers import activations, layers

LAYER = "conv2"


def by_hand(model, layer, pictures, k, channels=None):
    """One image after another; values, numbers, units of the k best, the earlier first where they are equal."""
    maps = [layers.run_to(model, layer, picture[None])[0].detach() for picture in pictures]
    rows = []
    for channel in channels or range(len(maps[0])):
        found = []
        for number, stack in enumerate(maps):
            place = int(stack[channel].argmax())
            found.append((-stack[channel].max().item(), number, divmod(place, stack.shape[2])))
        rows.append(sorted(found)[:k])
    return [[[-value for value, _, _ in row] for row in rows]] + [
        [[item[i] for item in row] for row in rows] for i in (1, 2)
    ]


def same(first, second):
    """Two results that can't be told apart."""
    assert torch.equal(first.channels, second.channels) and first.k == second.k
    for name in ("values", "index", "units"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert first.images.keys() == second.images.keys() and first.boxes == second.boxes
    assert all(torch.equal(first.images[number], second.images[number]) for number in first.images)


@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_the_winners_are_those_of_a_search_through_everything(batch_size, exact_device):
    model, pictures = tiny().double().to(exact_device), images(40)
    values, index, units = by_hand(model, LAYER, pictures.to(exact_device), 5)
    with unchanged(model):
        top = activations.top_patches(model, LAYER, pictures.split(batch_size), k=5)
    assert top.channels.tolist() == list(range(12)) and top.values.device.type == "cpu"
    assert top.index.tolist() == index
    assert [[tuple(unit) for unit in row] for row in top.units.tolist()] == units
    torch.testing.assert_close(top.values, torch.tensor(values, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert top.images.keys() == {number for row in index for number in row}
    assert all(torch.equal(top.images[number], pictures[number]) for number in top.images)


@pytest.mark.parametrize("k", [2, 40])
def test_a_stream_may_reuse_its_memory_and_keeps_none_of_it(k):
    """A loader that fills one buffer again and again; of the buffer, or of a batch, nothing else stays alive."""
    model, pictures, buffer = tiny().double(), images(240), images(8)

    def refilled():
        for batch in pictures.split(8):
            yield buffer.copy_(batch)

    top = activations.top_patches(model, LAYER, refilled(), k=k)
    same(top, activations.top_patches(model, LAYER, pictures, k=k))
    for number, image in top.images.items():
        assert torch.equal(image, pictures[number]) and image.untyped_storage().nbytes() == image.nbytes
    every = activations.top_patches(model, LAYER, pictures, k=240)  # the whole ranking
    assert torch.equal(every.index.sort(dim=1).values, torch.arange(240).expand(12, -1))
    assert torch.equal(every.index[:, :k], top.index) and torch.equal(every.values[:, :k], top.values)


def test_maps_are_what_the_layer_returns(device):
    model, batch = tiny().to(device).train(), images(2).float()
    with unchanged(model):
        maps = activations.maps(model, batch, LAYER)
    expected = tiny().to(device)[:5](batch.to(device)).detach()
    torch.testing.assert_close(maps, expected)
    torch.testing.assert_close(activations.maps(model, batch[1], LAYER), expected[1])
    with pytest.raises(ValueError, match="no maps"):
        activations.maps(model, batch, "linear")
    with pytest.raises(TypeError, match="tuple"):
        activations.maps(Pair(), batch, "pool")


def test_a_unit_depends_on_the_pixels_in_its_box_and_on_no_others():
    model = tiny().double()
    top = activations.top_patches(model, LAYER, images(12), k=3)
    at_border = 0
    for numbers, units, boxes, patches in zip(top.index.tolist(), top.units.tolist(), top.boxes, top.patches):
        for number, (row, col), box, patch in zip(numbers, units, boxes, patches):
            image = top.images[number]
            assert box == layers.receptive_field(model, LAYER, 32).box(row, col)
            assert torch.equal(patch, image[:, box.top : box.bottom, box.left : box.right])
            outside = torch.full_like(image, float("nan"))
            outside[:, *box.slices] = patch
            assert layers.run_to(model.eval(), LAYER, image[None])[0, :, row, col].isfinite().all()
            assert model[:5](outside[None])[0, :, row, col].isfinite().all()
            outside[:, box.top, box.left] = float("nan")
            assert model[:5](outside[None])[0, :, row, col].isnan().any()
            at_border += patch.shape[1:] != (8, 8)
    assert 0 < at_border < top.index.numel()


@pytest.mark.random
def test_of_equals_the_earlier_image_wins():
    """Weights and pixels are multiples of 1/64, so that no sum is rounded and equal images have equal values."""
    model, pictures = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).double(), (images(3) * 64).round() / 64
    for weight in model.parameters():
        weight.data = (weight.data * 64).round() / 64
    repeated = [2, 0, 1, 0, 2, 0, 1]
    best = layers.run_to(model, "1", pictures).amax((2, 3))[repeated].T.tolist()  # (channels, 7)
    expected = [sorted(range(7), key=lambda number, row=row: -row[number])[:6] for row in best]
    for batch_size in (1, 3, 7):
        top = activations.top_patches(model, "1", pictures[repeated].split(batch_size), k=6)
        assert top.index.tolist() == expected
    dead = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU())
    nn.init.constant_(dead[0].bias, -10)
    top = activations.top_patches(dead, "1", images(9).float().split(2), k=4)
    assert top.index.tolist() == [[0, 1, 2, 3]] * 2 and top.units.abs().sum() == 0


@pytest.mark.parametrize("cuts", [(20,), (3,), (38,), (10, 30), (5, 9, 33)])
def test_merged_parts_equal_one_run_in_any_order(cuts):
    """Of 40 images, 6 repeated, so that there are ties between the parts."""
    model, pictures = tiny().double(), images(40)[[*range(34), 0, 5, 10, 15, 20, 33]]
    whole = activations.top_patches(model, LAYER, pictures.split(1), k=7)
    starts, ends = (0, *cuts), (*cuts, 40)
    parts = [
        activations.top_patches(model, LAYER, pictures[start:end].split(1), k=7, first=start)
        for start, end in zip(starts, ends)
    ]
    forwards, backwards, inside_out = parts[0], parts[-1], parts[len(parts) // 2]
    for part in parts[1:]:
        forwards = forwards.merge(part)
    for part in parts[-2::-1]:
        backwards = backwards.merge(part)
    for part in [*parts[: len(parts) // 2], *parts[len(parts) // 2 + 1 :]]:
        inside_out = inside_out.merge(part)
    for merged in (forwards, backwards, inside_out):
        same(merged, whole)
    assert len({number for row in whole.index.tolist() for number in row} & {0, 5, 10, 15, 20, 33}) > 0


def test_merged_parts_with_fewer_images_than_asked_for():
    model, pictures = tiny().double(), images(5)
    whole = activations.top_patches(model, LAYER, pictures.split(1), k=9)
    assert whole.index.shape == (12, 5)
    parts = (
        activations.top_patches(model, LAYER, p.split(1), k=9, first=f)
        for p, f in ((pictures[:2], 0), (pictures[2:], 2))
    )
    first, second = parts
    same(first.merge(second), whole)


def test_what_can_not_be_merged():
    model = tiny()
    top = activations.top_patches(model, LAYER, images(3).float(), k=2)
    with pytest.raises(ValueError, match="first"):
        top.merge(activations.top_patches(model, LAYER, images(3, seed=1).float(), k=2))
    with pytest.raises(ValueError, match="channels"):
        top.merge(activations.top_patches(model, LAYER, images(3).float(), k=2, channels=[1, 2], first=3))


def test_some_channels_only():
    model, pictures = tiny().double(), images(10)
    top = activations.top_patches(model, LAYER, pictures, k=4)
    for channels in ([7, 0, 3], torch.tensor([7, 0, 3]), (7, 0, 3), range(7, 0, -3)):
        some = activations.top_patches(model, LAYER, pictures, k=4, channels=channels)
        rows = list(channels)
        assert some.channels.tolist() == [int(row) for row in rows]
        assert torch.equal(some.index, top.index[some.channels]) and torch.equal(some.units, top.units[some.channels])
        assert torch.equal(some.values, top.values[some.channels])


@pytest.mark.parametrize("names", [["norm1", LAYER], ["conv1", "norm1", "conv2"], [LAYER]], ids=str)
def test_several_layers_in_one_pass(names):
    model, pictures = tiny().double(), images(40)
    with unchanged(model):
        tops = activations.top_patches(model, names, pictures.split(9), k=5)
    assert list(tops) == names
    for name, top in tops.items():
        same(top, activations.top_patches(model, name, pictures.split(9), k=5))


def test_layers_that_are_not_named_early_to_late_are_refused():
    model = tiny()
    with unchanged(model), pytest.raises(ValueError, match="early to late"):
        activations.top_patches(model, [LAYER, "conv1"], images(4).float())
    with unchanged(model), pytest.raises(ValueError, match="no layer"):
        activations.top_patches(model, [], images(4).float())


class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, number):
        return PICTURES[number], number % 3


PICTURES = images(40)
STREAMS = {
    "tensor": lambda: PICTURES,
    "dataset of pairs": Squares,
    "TensorDataset": lambda: TensorDataset(PICTURES),
    "DataLoader": lambda: DataLoader(Squares(), batch_size=9, generator=torch.Generator()),
    "generator": lambda: (PICTURES[start : start + 8] for start in range(0, 40, 8)),
    "single images": lambda: iter(PICTURES),
    "tuples of images": lambda: [(picture, "label") for picture in PICTURES],
    "lists": lambda: [[part, None] for part in PICTURES.split(11)],
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_kind_of_stream(name):
    model = tiny().double()
    expected = activations.top_patches(model, LAYER, PICTURES.split(10), k=3)
    with unchanged(model):
        top = activations.top_patches(model, LAYER, STREAMS[name](), k=3)
    assert torch.equal(top.index, expected.index) and torch.equal(top.units, expected.units)
    assert all(torch.equal(top.images[number], PICTURES[number]) for number in top.images)


def test_one_image_alone():
    top = activations.top_patches(tiny().double(), LAYER, PICTURES[3], k=3)
    assert top.index.tolist() == [[0]] * 12 and torch.equal(top.images[0], PICTURES[3])


def test_images_of_two_sizes():
    model = tiny().double()
    wide = torch.cat([images(6, seed=1), images(6, seed=2)], 3)[:, :, :24]
    top = activations.top_patches(model, LAYER, [PICTURES[:4], wide, PICTURES[4:8]], k=9)
    both = 0
    for numbers, units, boxes in zip(top.index.tolist(), top.units.tolist(), top.boxes):
        both += {4 <= number < 10 for number in numbers} == {True, False}
        for number, unit, box in zip(numbers, units, boxes):
            size = (24, 64) if 4 <= number < 10 else (32, 32)
            assert tuple(top.images[number].shape[1:]) == size
            assert box == layers.receptive_field(model, LAYER, size).box(*unit)
    assert both


class Stream:
    """Batches of 50 small pictures: how many of them are in memory at once, and the bytes of all tensors at the end."""

    def __init__(self, count: int) -> None:
        self.count, self.alive, self.most, self.bytes = count, 0, 0, 0

    def gone(self) -> None:
        self.alive -= 1

    def __iter__(self):
        random = np.random.default_rng(0)
        for _ in range(self.count // 50):
            array = random.random((50, 3, 8, 8), dtype=np.float32)
            weakref.finalize(array, self.gone)  # a view of a part of it keeps it, too
            self.alive += 1
            self.most = max(self.most, self.alive)
            yield torch.from_numpy(array)
            del array
        tensors = [item for item in gc.get_objects() if issubclass(type(item), torch.Tensor)]
        dense = [tensor for tensor in tensors if tensor.device.type == "cpu" and tensor.layout == torch.strided]
        storages = [tensor.untyped_storage() for tensor in dense]
        self.bytes = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def test_memory_does_not_grow_with_the_number_of_images():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    few, many = Stream(1_000), Stream(10_000)
    for stream in (few, many):
        top = activations.top_patches(model, "1", stream, k=3)
        assert len(top.images) <= 12
        assert all(image.untyped_storage().nbytes() == 3 * 8 * 8 * 4 for image in top.images.values())
        del top
    assert few.most == many.most <= 2
    assert many.bytes - few.bytes <= 12 * 3 * 8 * 8 * 4, "the winners may differ, no more"
    hoarded = Stream(1_000)
    kept = [batch[:1] for batch in hoarded]
    assert hoarded.most == len(kept) == 20, "the measurement must be able to fail"
    assert hoarded.bytes - few.bytes > 15 * 50 * 3 * 8 * 8 * 4


class Never(nn.Module):
    def forward(self, pixels):
        raise AssertionError("computed")


def test_nothing_above_the_layer_is_computed():
    model = tiny()
    model.norm2 = Never()
    activations.top_patches(model, LAYER, images(3).float())
    activations.maps(model, images(3).float(), LAYER)


def test_selectivity_is_the_share_of_the_commonest_label():
    """Of the chapter, which has the only one; and its way to take some photographs out of a ranking."""
    chapter = from_chapter("03_activation_maps", "selectivity", "among")
    selectivity, among = chapter["selectivity"], chapter["among"]
    order = activations.top_patches(tiny(), LAYER, PICTURES.float(), k=40).index
    assert selectivity(order, torch.full((40,), 3), 4)[0].tolist() == [1.0] * 12
    assert selectivity(order, torch.arange(40), 4)[0].tolist() == [0.25] * 12
    order = torch.arange(36).view(9, 4)
    labels = torch.arange(40) // 3  # 0 0 0 1, 1 1 2 2, 2 3 3 3, …
    share, favourite = selectivity(order, labels, 4)
    assert share.tolist() == [0.75, 0.5, 0.75] * 3
    assert favourite.tolist() == [0, 1, 3, 4, 5, 7, 8, 9, 11]
    assert among(torch.tensor([[3, 0, 2, 1], [1, 2, 3, 0]]), torch.tensor([True, False, True, True])).tolist() == [
        [3, 0, 2],
        [2, 3, 0],
    ]


@pytest.mark.parametrize("k", [0, -1, 2.5, "5", None])
def test_k_is_refused(k):
    with pytest.raises(ValueError, match="k must be"):
        activations.top_patches(tiny(), LAYER, PICTURES, k=k)


@pytest.mark.parametrize("channels", [[12], [-1], [], [1.0], [[1]], 3, [True, False]], ids=str)
def test_channels_are_refused(channels):
    model = tiny()
    with unchanged(model), pytest.raises(ValueError, match="channels must be"):
        activations.top_patches(model, LAYER, PICTURES, channels=channels)


BAD_STREAMS = {
    "empty": ([], ValueError, "no images"),
    "empty dataset": (TensorDataset(PICTURES[:0]), ValueError, "no images"),
    "arrays": (iter(PICTURES.numpy()), TypeError, "ndarray"),
    "paths": (["photo.jpg"], TypeError, "str"),
    "integers": ((PICTURES * 255).to(torch.uint8), TypeError, "floating"),
    "a bad one in the middle": ([PICTURES[:4], PICTURES[4:8] * 2, PICTURES[8:]], ValueError, r"\[0, 1\]"),
    "grey": (PICTURES[:, :1], ValueError, "shape"),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_bad_stream_is_refused(name):
    stream, error, message = BAD_STREAMS[name]
    model = tiny().double()
    with unchanged(model), pytest.raises(error, match=message):
        activations.top_patches(model, LAYER, stream)


def test_activations_that_are_no_numbers_are_refused():
    model = tiny()
    with torch.no_grad():
        model.conv2.bias[4] = float("inf")
    with unchanged(model), pytest.raises(ValueError, match="NaN or infinite"):
        activations.top_patches(model, LAYER, PICTURES)
    activations.top_patches(model, LAYER, PICTURES, channels=[3, 5])


@pytest.mark.parametrize("layer", ["linear", "flatten"])
def test_a_layer_without_maps_is_refused(layer):
    model = tiny()
    with unchanged(model), pytest.raises(ValueError, match="maps"):
        activations.top_patches(model, layer, PICTURES)


def test_a_layer_without_a_receptive_field_is_refused():
    class Turned(nn.Module):
        def forward(self, pixels):
            return pixels.transpose(2, 3)

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Turned())
    with unchanged(model), pytest.raises(ValueError, match="receptive field"):
        activations.top_patches(model, "1", PICTURES)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradient_modes_change_nothing(mode):
    model = tiny().double()
    expected = activations.top_patches(model, LAYER, PICTURES, k=3)
    assert not expected.values.requires_grad
    with mode():
        same(activations.top_patches(model, LAYER, PICTURES, k=3), expected)


def test_units_at_the_edge_need_not_compete():
    """With ``inside`` the winners are those of maps without their margin, which here is two units wide."""
    model, pictures = tiny(), images(12).float()
    pictures[:, :, :3] = 1  # at the edge there is something to see
    maps = layers.run_to(model.eval(), LAYER, pictures).detach()
    assert layers.receptive_field(model, LAYER, 32).size == (8, 8)
    inner = maps[:, :, 2:-2, 2:-2].flatten(2).max(2)
    top = activations.top_patches(model, LAYER, pictures, 4, inside=True)
    expected = inner.values.T.sort(1, descending=True)
    torch.testing.assert_close(top.values, expected.values[:, :4])
    assert torch.equal(top.index, expected.indices[:, :4])
    assert all(patch.shape == (3, 8, 8) for row in top.patches for patch in row)
    assert not torch.equal(top.index, activations.top_patches(model, LAYER, pictures, 4).index)


def test_where_no_unit_sees_the_image_alone_none_can_compete():
    with pytest.raises(ValueError, match="8 × 8 pixels"):
        activations.top_patches(tiny(), LAYER, images(2, 4).float(), inside=True)
