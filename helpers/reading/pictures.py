"""Pictures from files and addresses, within limits: see `photos.load_image`."""

from __future__ import annotations

import io
import queue
import re
import threading
import time
import urllib.parse
import urllib.request
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..inputs import check_count

# What a picture from outside may cost.
MAX_BYTES = 20_000_000  # of its file
MAX_SECONDS = 30  # for all of a download, from the name of the host to the last byte
MAX_REDIRECTS = 5

# What makes a text an address: "scheme://", or one of these before a colon. Not "C:\\cat.jpg", nor "cat: asleep.jpg".
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://|(https?|ftps?|file|data|javascript|gopher|blob):", re.IGNORECASE)


def read(path_or_url: str | Path) -> bytes:
    """The bytes of a picture's file, or of what an http(s) address sends; errors as `photos.load_image`."""
    if isinstance(path_or_url, str) and _ADDRESS.match(path_or_url):
        return _fetch(path_or_url)
    return _read_file(path_or_url)


def decode(data: bytes, size: int, place: str) -> Tensor:
    """`photos.decode`."""
    check_count("size", size)
    _limit(len(data), place)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow refuses only twice its limit
            with Image.open(io.BytesIO(data)) as file:
                if file.format == "EPS":  # Pillow would start Ghostscript
                    raise ValueError("EPS is a programming language: save it as PNG or JPEG.")
                picture = _as_rgb(ImageOps.exif_transpose(file))
        square = ImageOps.fit(picture, (size, size), Image.Resampling.BICUBIC)
    except UnidentifiedImageError as error:  # its own message names the object in memory
        raise ValueError(f"{place} is no picture that can be read: its format is not known.") from error
    except Exception as error:  # Pillow's readers raise what they like for a bad file
        raise ValueError(f"{place} is no picture that can be read: {error}") from error
    return torch.from_numpy(np.asarray(square, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def _as_rgb(picture: Image.Image) -> Image.Image:
    """8 bits for each of three channels; what is transparent becomes white."""
    if picture.mode == "F":
        raise ValueError("a picture of floating-point numbers has no known range: save it with 8 bits a channel.")
    if picture.mode.startswith("I"):  # 16 bits, which Pillow would clip
        picture = Image.fromarray((np.asarray(picture, dtype=np.float64) / 257).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture.convert("RGBA"))
    return picture.convert("RGB")


def _limit(count: int, place: str) -> None:
    if count > MAX_BYTES:
        raise ValueError(f"{place} has more than {MAX_BYTES // 1_000_000} MB: make it smaller first.")


def _read_file(path: str | Path) -> bytes:
    """The bytes of a file; nothing of a folder, a pipe or a device, which might have no end."""
    try:
        path = Path(path).expanduser()
        if path.is_file():
            _limit(path.stat().st_size, str(path))
            with path.open("rb") as file:
                return file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: the home of an unknown user
        raise FileNotFoundError(f"{path} can't be read: {error}.") from error
    raise FileNotFoundError(f"no file at {path}: give the path of a picture, or an address (https://…).")


def _allow(url: str) -> None:
    """Refuse any address but http(s)."""
    if not url.lower().startswith(("http://", "https://")):
        raise ValueError(
            f"{url[:100]} is not allowed: give an address that begins with https:// or http://, or a path."
        )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """To http(s) only: urllib's own would follow to ftp, and read to its end what comes along with a redirect."""

    max_redirections = MAX_REDIRECTS

    def http_error_302(self, request, answer, code, message, headers):
        _allow(urllib.parse.urljoin(request.full_url, headers.get("location", "")))
        return super().http_error_302(request, answer, code, message, headers)

    def redirect_request(self, request, answer, code, message, headers, url):
        _allow(url)
        answer.close()
        return super().redirect_request(request, answer, code, message, headers, url)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _fetch(url: str) -> bytes:
    """The bytes at an address; errors as `load_image`. A thread fetches: it may hang, and is then left behind."""
    _allow(url)
    found: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    threading.Thread(target=lambda: found.put(_download(url)), daemon=True).start()
    try:
        data = found.get(timeout=MAX_SECONDS)
    except queue.Empty:
        data = TimeoutError(f"it took longer than {MAX_SECONDS} s")
    if isinstance(data, ValueError) and not isinstance(data, UnicodeError):
        raise data
    if isinstance(data, Exception):
        raise FileNotFoundError(f"{url} can't be reached ({data}): save the picture and give its path.") from data
    return data


def _download(url: str) -> bytes | Exception:
    """The bytes at an address, or what went wrong."""
    deadline = time.monotonic() + MAX_SECONDS
    data = bytearray()
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "visualizing-cnns"})
        with urllib.request.build_opener(_Redirects).open(request, timeout=MAX_SECONDS) as answer:
            _limit(answer.length or 0, url)  # what the server says itself
            while part := answer.read1(2**16):  # what has come, be it one byte
                data += part
                _limit(len(data), url)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"it took longer than {MAX_SECONDS} s")
    except Exception as error:  # whatever it is, it belongs to the caller, who waits in another thread
        return error
    return bytes(data)
