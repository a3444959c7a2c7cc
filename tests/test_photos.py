"""Packaged photographs, grids of them, and whatever picture a reader brings."""

import http.client
import io
import urllib.error
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import models, photos
from helpers.reading import pictures


def save(array, path, mode=None, **options):
    Image.fromarray(array).convert(mode).save(path, **options) if mode else Image.fromarray(array).save(path, **options)
    return path


@pytest.fixture(scope="module")
def ramp():
    """(48, 64, 3): red grows downwards, green to the right, blue is constant."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 240, 48).astype(np.uint8)[:, None]
    picture[..., 1] = np.linspace(0, 250, 64).astype(np.uint8)
    picture[..., 2] = 99
    return picture


@pytest.mark.parametrize("name", photos.names())
def test_every_photograph_loads(name):
    image = photos.load(name, 64)
    assert image.shape == (3, 64, 64) and image.dtype == torch.float32 and image.is_contiguous()
    assert 0 <= image.min() < image.max() <= 1
    assert image.std() > 0.02


def test_the_sizes():
    assert photos.load("coffee").shape == (3, 224, 224)
    assert photos.load("coffee", 1).shape == (3, 1, 1)
    assert len(photos.names()) == len(set(photos.names())) >= 18
    assert photos.names() == sorted(photos.names())
    assert set(photos.KNOWN) <= set(photos.names())


def test_known_labels_are_imagenets():
    categories = models.load(device="cpu").categories
    assert all(label in categories for labels in photos.KNOWN.values() for label in labels)


def test_an_unknown_photograph_is_refused():
    with pytest.raises(LookupError, match="'cofee'.*coffee"):
        photos.load("cofee")


def test_the_central_square_is_cut(ramp, tmp_path):
    image = photos.load_image(save(ramp, tmp_path / "wide.png"), 48)
    expected = torch.from_numpy(ramp[:, 8:56].astype(np.float32) / 255).permute(2, 0, 1)
    torch.testing.assert_close(image, expected)
    tall = photos.load_image(save(ramp.transpose(1, 0, 2).copy(), tmp_path / "tall.png"), 48)
    torch.testing.assert_close(tall, expected.transpose(1, 2))


def test_path_and_string_and_home(ramp, tmp_path, monkeypatch):
    path = save(ramp, tmp_path / "a.png")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert torch.equal(photos.load_image(path, 16), photos.load_image(str(path), 16))
    assert torch.equal(photos.load_image(path, 16), photos.load_image("~/a.png", 16))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_as_its_camera_was(orientation, ramp, tmp_path):
    """EXIF orientation 1 to 8: stored turned or mirrored, shown upright."""
    upright = ramp[:, 8:56]
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(np.ascontiguousarray(stored), tmp_path / "photo.png", exif=exif)
    expected = torch.from_numpy(upright.astype(np.float32) / 255).permute(2, 0, 1)
    torch.testing.assert_close(photos.load_image(path, 48), expected)


def test_colour_modes(ramp, tmp_path):
    square = ramp[:, 8:56]
    exact = photos.load_image(save(square, tmp_path / "rgb.png"), 48)
    grey = photos.load_image(save(square[..., 1].copy(), tmp_path / "grey.png"), 48)
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], exact[1])
    palette = photos.load_image(save(square, tmp_path / "palette.png", "P"), 48)
    assert (palette - exact).abs().mean() < 0.1
    cmyk = photos.load_image(save(square, tmp_path / "cmyk.tif", "CMYK"), 48)
    assert (cmyk - exact).abs().max() < 0.02
    black_and_white = photos.load_image(save(square[..., 1] > 128, tmp_path / "bits.png"), 48)
    assert set(black_and_white.unique().tolist()) == {0.0, 1.0}
    opaque = np.dstack([square, np.full((48, 48), 255, np.uint8)])
    torch.testing.assert_close(photos.load_image(save(opaque, tmp_path / "opaque.png"), 48), exact)
    deep = (np.linspace(0, 65535, 48)[:, None] * np.ones(48)).astype(np.uint16)
    ramp16 = photos.load_image(save(deep, tmp_path / "deep.png"), 48)
    torch.testing.assert_close(ramp16[0, :, 0], torch.linspace(0, 1, 48), rtol=0, atol=1 / 255)


def test_what_is_transparent_is_white(ramp, tmp_path):
    square = ramp[:, 8:56]
    alpha = np.zeros((48, 48), np.uint8)
    alpha[:, :24] = 255
    image = photos.load_image(save(np.dstack([square, alpha]), tmp_path / "half.png"), 48)
    assert (image[:, :, 25:] == 1).all()
    expected = torch.from_numpy(square[:, :24].astype(np.float32) / 255).permute(2, 0, 1)
    torch.testing.assert_close(image[:, :, :24], expected)
    both = Image.fromarray(np.dstack([square[..., 1], alpha]))
    assert both.mode == "LA"
    both.save(tmp_path / "grey.png")
    assert (photos.load_image(tmp_path / "grey.png", 48)[:, :, 25:] == 1).all()


def test_a_picture_of_floats_is_refused(tmp_path):
    path = save(np.random.default_rng(0).random((8, 8)).astype(np.float32), tmp_path / "float.tif")
    with pytest.raises(ValueError, match="floating-point"):
        photos.load_image(path, 8)


def test_files_that_are_no_pictures(ramp, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("This is no picture.")
    with pytest.raises(ValueError, match="notes.txt is no picture"):
        photos.load_image(path)
    path = tmp_path / "empty.jpg"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="empty.jpg is no picture"):
        photos.load_image(path)
    for missing in (tmp_path / "nowhere.jpg", tmp_path, ""):
        with pytest.raises(FileNotFoundError, match="no file at"):
            photos.load_image(missing)


FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "ICO", "TGA"]


@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_pictures_raise_value_error_or_load(kind, tmp_path):
    random = np.random.default_rng(FORMATS.index(kind))
    sheet = io.BytesIO()
    Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(sheet, kind)
    data, refused = sheet.getvalue(), 0
    path = tmp_path / "picture"
    for attempt in range(40):
        damaged = bytearray(data)
        if attempt % 2:
            damaged = damaged[: random.integers(1, len(data))]
        else:
            for place in random.integers(0, len(data) if attempt % 4 else min(200, len(data)), 8):
                damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            image = photos.load_image(path, 8)
            assert image.shape == (3, 8, 8)
        except ValueError as error:
            refused += 1
            assert "is no picture that can be read" in str(error)
    assert refused >= 5


def test_a_truncated_photograph_is_refused(tmp_path):
    sheet = io.BytesIO()
    Image.fromarray((photos.load("coffee", 64).permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(sheet, "JPEG")
    path = tmp_path / "half.jpg"
    path.write_bytes(sheet.getvalue()[: len(sheet.getvalue()) // 2])
    with pytest.raises(ValueError, match="half.jpg.*truncated"):
        photos.load_image(path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save(np.zeros((200, 200), np.uint8), tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="bomb"):
        photos.load_image(path)


def test_a_file_that_is_too_large_is_refused(tmp_path, monkeypatch):
    path = save(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), tmp_path / "large.png")
    monkeypatch.setattr(pictures, "MAX_BYTES", 5000)
    with pytest.raises(ValueError, match="large.png has more than"):
        photos.load_image(path)


@pytest.mark.parametrize("size", [0, -1, 2.5, "64", None, (64, 64)])
def test_a_bad_size_is_refused(size, ramp, tmp_path):
    path = save(ramp, tmp_path / "a.png")
    for load in (lambda: photos.load_image(path, size), lambda: photos.load("coffee", size)):
        with pytest.raises(ValueError, match="size"):
            load()


# ------------------------------------------------------------------------------------------ addresses


class Body(io.BytesIO):
    """An answer that does not say how long it is."""

    length = None


def test_a_picture_from_an_address(ramp, tmp_path, monkeypatch):
    asked = []

    def answer(self, request, timeout):
        asked.append((request.full_url, request.get_header("User-agent"), timeout))
        return Body(path.read_bytes())

    path = save(ramp, tmp_path / "a.png")
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", answer)
    for scheme in ("http", "https"):
        assert torch.equal(photos.load_image(f"{scheme}://example.org/a.png", 16), photos.load_image(path, 16))
    assert [url for url, *_ in asked] == ["http://example.org/a.png", "https://example.org/a.png"]
    assert all(agent and timeout for _, agent, timeout in asked)


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        urllib.error.HTTPError("https://example.org", 404, "Not Found", None, None),
        TimeoutError("timed out"),
        ConnectionResetError("reset"),
        http.client.IncompleteRead(b"abc"),
        http.client.BadStatusLine("?"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_address_that_cannot_be_reached(error, monkeypatch):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", refuse)
    with pytest.raises(FileNotFoundError, match="https://example.org/a.png can't be reached.*give its path"):
        photos.load_image("https://example.org/a.png")


@pytest.mark.parametrize("url", ["http://", "http://a b/c.png", "https://example.invalid\n/x", "http://[::1"])
def test_an_address_that_is_none(url, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("the test has no network")

    monkeypatch.setattr("socket.create_connection", refuse)
    with pytest.raises((FileNotFoundError, ValueError)):
        photos.load_image(url)


def test_an_address_that_gives_too_much_is_refused(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *arguments, **options: Body(bytes(10**6)))
    with pytest.raises(ValueError, match="more than"):
        photos.load_image("https://example.org/a.png")


# ------------------------------------------------------------------------------------------------ grids


def test_a_grid_holds_its_photographs_in_its_boxes():
    names = ["coffee", "chelsea", "rocket", "camera"]
    grid = photos.grid(names, 40)
    assert grid.image.shape == (3, 80, 80) and grid.names == tuple(names) and grid.targets == ()
    for name, box in zip(names, grid.boxes):
        assert torch.equal(grid.image[:, *box.slices], photos.load(name, 40))
    assert grid.boxes == ((0, 0, 40, 40), (0, 40, 40, 80), (40, 0, 80, 40), (40, 40, 80, 80))


def test_a_collage_is_the_grid_of_its_images():
    images = [torch.full((3, 2, 2), value) for value in (0.1, 0.2, 0.3, 0.4)]
    grid = photos.collage(images, ["a", "b", "c", "d"], [5, 6, 7, 8])
    assert grid.names == ("a", "b", "c", "d") and grid.targets == (5, 6, 7, 8)
    assert torch.equal(grid.image[0, ::2, ::2], torch.tensor([[0.1, 0.2], [0.3, 0.4]]))
    assert all(torch.equal(grid.image[:, *box.slices], image) for box, image in zip(grid.boxes, images))


@pytest.mark.parametrize("names", [[], ["coffee"], ["coffee"] * 5])
def test_a_grid_has_four_photographs(names):
    with pytest.raises(ValueError, match=f"four photographs, got {len(names)}"):
        photos.grid(names)


def test_a_grid_of_an_unknown_photograph_is_refused():
    with pytest.raises(LookupError, match="mug"):
        photos.grid(["coffee", "chelsea", "rocket", "mug"])
