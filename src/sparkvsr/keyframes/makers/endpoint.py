"""An image endpoint as a reference maker: OpenAI-images-compatible (``.../images/edits``) or fal-style.

    https://api.openai.com/v1/images/edits#model=gpt-image-1&size=1536x1024
    https://fal.run/fal-ai/clarity-upscaler
    http://127.0.0.1:7860/v1/images/edits

What follows ``#`` is for this maker and is never sent: ``style=openai|fal``, ``model=NAME``, ``size=WxH`` (endpoints
with fixed sizes: the frame is put into a picture of that size, and cut out of the answer again). The key comes from an
environment variable and appears in no message, name or file.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError, SparkVSRError
from sparkvsr.keyframes.makers.cache import ImageCache, content_key, user_cache_folder
from sparkvsr.keyframes.makers.interface import Interruptible, MakerOptions, fit_answer
from sparkvsr.keyframes.makers.judged_size import judge_declared
from sparkvsr.keyframes.makers.transport import Requester, is_address, multipart
from sparkvsr.video.pixels import resize_image

DEFAULT_JOBS = 4
CACHE_VERSION = "1"
DEFAULT_PROMPT = (
    "Restore this video frame to a sharp, clean, high-resolution photograph. Keep composition, geometry, identity, "
    "colours and lighting exactly as they are. Remove blur, noise and compression artifacts. Add nothing."
)
_SETTINGS = {"style", "model", "size"}
_STYLES = ("openai", "fal")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
MAX_SIDE = 8192


class EndpointMaker(Interruptible):
    """Sends each frame to an endpoint and keeps what comes back, so that nothing is paid twice.

    Args:
        url: see the module's text.
        options: prompts, ``key_variable``, ``timeout_seconds``, ``jobs``, ``cache_dir``.
        backoff_seconds: first pause before a retry; doubled each time.

    Raises:
        ConfigError: not a URL, an unknown setting, or a key that would travel in clear text.
    """

    def __init__(self, url: str, options: MakerOptions | None = None, *, backoff_seconds: float = 2.0) -> None:
        super().__init__()
        self._options = options or MakerOptions()
        self.url, settings = _split(url)
        parts = urlsplit(self.url)
        self._key = os.environ.get(self._options.key_variable, "").strip()
        if self._key and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            msg = (
                f"--references {_shown(url)} would send ${self._options.key_variable} unencrypted; use https, "
                f"or unset the variable"
            )
            raise ConfigError(msg)
        fal_host = parts.hostname == "fal.run" or (parts.hostname or "").endswith(".fal.run")
        self.style = settings.get("style") or ("fal" if fal_host else "openai")
        self._model = settings.get("model", "")
        self._canvas = _size(settings["size"], url) if "size" in settings else None
        self.name = f"{self.style} endpoint {parts.hostname}"
        self.jobs = self._options.jobs or DEFAULT_JOBS
        self._cache = ImageCache(self._options.cache_dir or user_cache_folder())
        self._requester = Requester(
            self.name,
            self.url,
            key_variable=self._options.key_variable,
            key=self._key,
            timeout_seconds=self._options.timeout_seconds,
            backoff_seconds=backoff_seconds,
            closed=self.closed,
        )

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        from sparkvsr.video.images import encode_image

        prompt = self._options.prompt_for(index) or DEFAULT_PROMPT
        # Endpoints that edit keep the size of what they get, so they get the size that is wanted.
        sent = resize_image(lr, size)
        box = None
        if self._canvas is not None:
            sent, box = place(sent, self._canvas)
        png = encode_image(sent, ".png", bits=8)
        key = content_key(CACHE_VERSION, self.url, self.style, self._model, prompt, png)
        answer = self._cache.get(key)
        if answer is None:
            answer = self._decode(self._ask(png, prompt), index, sent)
            self._cache.put(key, answer)
        if box is not None:
            answer = cut_out(answer, box)
        return fit_answer(answer, lr, size, f"{self.name}, keyframe {index},")

    def identity(self, index: int) -> str:
        """See ``ReferenceMaker.identity``."""
        settings = (self.style, self._model, str(self._canvas))
        # Hashed, as the address may hold a secret in its query.
        return f"{self.name} {content_key(self.url, *settings, self._options.prompt_for(index) or DEFAULT_PROMPT)}"

    def _ask(self, png: bytes, prompt: str) -> bytes:
        """Send one picture; the bytes of the picture that came back."""
        if self.style == "openai":
            fields = {"prompt": prompt, "n": "1"}
            if self._model:
                fields["model"] = self._model
            if self._canvas is not None:
                fields["size"] = f"{self._canvas[1]}x{self._canvas[0]}"
            body, content_type = multipart(fields, "image", "frame.png", "image/png", png)
            authorization = f"Bearer {self._key}"
        else:
            picture = "data:image/png;base64," + base64.b64encode(png).decode()
            # Editing models of this kind read `image_urls`, upscalers `image_url`; both ignore what they do not know.
            request = {"prompt": prompt, "image_url": picture, "image_urls": [picture], "num_images": 1}
            if self._model:
                request["model"] = self._model
            body, content_type = json.dumps(request).encode(), "application/json"
            authorization = f"Key {self._key}"
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = authorization
        reply = self._requester.send(self.url, body, headers)
        found = _picture_in(reply)
        if found is None:
            msg = f"{self.name} answered without an image; is {_shown(self.url)} of style {self.style}?"
            raise KeyframeError(msg)
        if found.startswith("data:"):
            found = found.partition(",")[2]
        elif found.startswith(("http://", "https://")):
            return self._requester.fetch(found)
        try:
            # Some break the lines, as in a mail.
            return base64.b64decode("".join(found.split()), validate=True)
        except ValueError as exc:
            msg = f"{self.name} answered with an image that is not base64; is it of style {self.style}?"
            raise KeyframeError(msg) from exc

    def _decode(self, data: bytes, index: int, sent: Tensor) -> Tensor:
        from sparkvsr.video import read_image

        with tempfile.TemporaryDirectory(prefix="sparkvsr-") as folder:
            path = Path(folder) / "answer.png"
            path.write_bytes(data)
            size = (sent.shape[-2], sent.shape[-1])
            judge_declared(path, size, size, f"what {self.name} sent for keyframe {index}")
            try:
                return read_image(path)
            except SparkVSRError as exc:
                msg = f"{self.name} sent no readable image for keyframe {index} ({len(data)} bytes); try it again"
                raise KeyframeError(msg) from exc


def place(image: Tensor, canvas: tuple[int, int]) -> tuple[Tensor, tuple[float, float, float, float]]:
    """Put an image into the middle of a picture of fixed size, edges repeated outwards.

    Args:
        image: ``(3, a, b)`` in [0, 1].
        canvas: ``(H, W)``.

    Returns:
        ``(3, H, W)``, and top, left, bottom, right of the image as fractions of it.
    """
    (a, b), (height, width) = image.shape[-2:], canvas
    factor = min(height / a, width / b)
    h, w = min(height, round(a * factor)), min(width, round(b * factor))
    top, left = (height - h) // 2, (width - w) // 2
    inner = resize_image(image, (h, w))
    padded = F.pad(inner[None], (left, width - w - left, top, height - h - top), mode="replicate")[0]
    return padded, (top / height, left / width, (top + h) / height, (left + w) / width)


def cut_out(image: Tensor, box: tuple[float, float, float, float]) -> Tensor:
    """The part of ``(3, a, b)`` in [0, 1] that ``place`` put there, whatever size the image has now."""
    h, w = image.shape[-2:]
    top, left, bottom, right = (round(value * side) for value, side in zip(box, (h, w, h, w), strict=True))
    return image[:, top : max(top + 1, bottom), left : max(left + 1, right)]


def _split(url: str) -> tuple[str, dict[str, str]]:
    if not is_address(url.partition("#")[0]):
        msg = (
            f"--references {_shown(url)} is not the URL of an endpoint; write it like https://host/v1/images/edits "
            f"(other characters as %XX)"
        )
        raise ConfigError(msg)
    parts = urlsplit(url)
    settings = dict(parse_qsl(parts.fragment, keep_blank_values=True))
    unknown = sorted(set(settings) - _SETTINGS)
    if unknown or (parts.fragment and not all(settings.values())):
        what = unknown[0] if unknown else parts.fragment
        names = ", ".join(sorted(_SETTINGS))
        msg = f"--references {_shown(url)}: {what!r} behind '#' is no setting; use {names}, like size=1536x1024"
        raise ConfigError(msg)
    if settings.get("style", "fal") not in _STYLES:
        msg = f"--references {_shown(url)}: style {settings['style']!r} is unknown; use {' or '.join(_STYLES)}"
        raise ConfigError(msg)
    return urlunsplit(parts._replace(fragment="")), settings


def _size(text: str, url: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (
        width.isdecimal() and height.isdecimal() and 16 <= int(width) <= MAX_SIDE and 16 <= int(height) <= MAX_SIDE
    ):
        msg = f"--references {_shown(url)}: size {text!r} is not WIDTHxHEIGHT like 1536x1024 (16 to {MAX_SIDE})"
        raise ConfigError(msg)
    return int(height), int(width)


def _shown(url: str) -> str:
    """A URL without what may be secret in it: user, password and query."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition(':')[0]}://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _picture_in(reply: Any) -> str | None:
    """Base64 or URL of the first image of an answer, of either style."""
    if not isinstance(reply, dict):
        return None
    first = reply.get("image")
    for name in ("data", "images"):
        items = reply.get(name)
        if isinstance(items, list) and items:
            first = items[0]
    if isinstance(first, str):
        return first
    if isinstance(first, dict):
        for name in ("b64_json", "url", "content"):
            if isinstance(first.get(name), str):
                return str(first[name])
    return None


def make_http(argument: str, options: MakerOptions) -> EndpointMaker:
    """Factory of ``http://...``."""
    return EndpointMaker(f"http:{argument}", options)


def make_https(argument: str, options: MakerOptions) -> EndpointMaker:
    """Factory of ``https://...``."""
    return EndpointMaker(f"https:{argument}", options)
