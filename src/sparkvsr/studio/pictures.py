"""Everything that is done to pixels for the page: frames decoded, images kept, checked and mended.

It lives in the render process, beside the model, so that the server holds no torch and no pictures (torch alone is
600 MB). What is asked for and what is given back are plain values and bytes, images go through the project folder.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparkvsr.inference.batch import find_inputs
from sparkvsr.inference.options import check_options
from sparkvsr.inference.upscale import make_options
from sparkvsr.models.looks import LOOKS
from sparkvsr.models.registry import check_name, own_references
from sparkvsr.studio.files import inside
from sparkvsr.studio.fixes import apply_fix, composed, findings
from sparkvsr.studio.frames import FrameSource, Picture, PictureCache, encoded, reduced, to_picture
from sparkvsr.studio.images import keep_file, keep_tensor, load_image
from sparkvsr.studio.makers import check_makers
from sparkvsr.video.pixels import resize_image

OPEN_SOURCES = 10
"""Files that are decoded from at a time; each holds a decoder with its frames."""

Place = Mapping[str, Any]
"""A picture somewhere: ``{"image": PATH}``, or ``{"file": PATH, "index": N, "deinterlace": MODE}``."""


class Pictures:
    """Answers to what the server asks; calls may come from any thread."""

    def __init__(self) -> None:
        self._cache = PictureCache()
        self._sources: OrderedDict[tuple[str, str, str], FrameSource] = OrderedDict()
        self._lock = threading.Lock()
        self._works: dict[str, Callable[..., Any]] = {
            one.__name__: one
            for one in (
                self.begin, self.look, self.frame, self.keep, self.keep_frame, self.check, self.fix, self.paint
            )
        }  # fmt: skip

    def ask(self, name: str, /, **values: Any) -> Any:
        """One answer: a value that JSON can hold, or bytes.

        Raises:
            SparkVSRError: what was asked for cannot be done, and why.
        """
        return self._works[name](**values)

    def begin(self, inputs: list[str], values: dict[str, Any], makers: list[str]) -> dict[str, Any]:
        """Which clips are meant, and the maker of the model's own kind; refuses options that are wrong for any clip.

        Raises:
            ConfigError: an option or an input is wrong.
            WeightsError: there is no such model.
            DecodeError: another video that is to give keyframes cannot be read.
        """
        check_options(make_options(**values))
        check_name(str(values.get("model", "lite")))
        check_makers(makers)
        found = find_inputs(inputs)
        own = own_references(values.get("look") or LOOKS[0])
        return {"clips": [str(path.absolute()) for path in found.paths], "own": own}

    def look(self, clip: str, deinterlace: str) -> dict[str, Any]:
        """What the page and the project have to know of a clip.

        Raises:
            DecodeError: it cannot be read.
        """
        source = self._source(clip, deinterlace, "")
        info = source.info
        return {
            "width": info.width,
            "height": info.height,
            "frames": info.num_frames,
            "fps": float(info.average_fps) if info.average_fps else 24.0,
            "variable": info.is_vfr,
            "summary": info.summary(),
            "sound": info.num_audio > 0,
            "first_file": None if Path(clip).is_file() else str(info.files[0]),
            "seconds": source.seconds(),
            "fingerprint": source.fingerprint(),
        }

    def frame(self, place: Place, kind: str, height: int | None = None, reader: str = "") -> bytes:
        """A frame as ``png`` or ``jpg``, made smaller to a height if one is given.

        Args:
            reader: pictures that are asked for in another order get a reader of their own.
        """
        picture = self._picture(place, reader)
        return encoded(picture if height is None else reduced(picture, height), kind)

    def keep(self, project: str, waiting: str, lr_size: list[int] | None) -> str:
        """See ``images.keep_file``."""
        return keep_file(Path(project), Path(waiting), None if lr_size is None else (lr_size[0], lr_size[1]))

    def keep_frame(self, project: str, place: Place) -> str:
        """Keep a picture as an image of the project; its name."""
        return keep_tensor(Path(project), self._pixels(place))

    def check(self, frame: Place, image: str) -> list[dict[str, str | None]]:
        """See ``fixes.findings``."""
        return findings(self._pixels(frame), load_image(Path(image)))

    def fix(self, project: str, name: str, frame: Place, image: str) -> str:
        """Mend an image; name of the new one."""
        return keep_tensor(Path(project), apply_fix(name, self._pixels(frame), load_image(Path(image))))

    def paint(self, project: str, over: str, base: Place, mask: str) -> str:
        """Take an image where a mask is white, another picture elsewhere; name of the new image."""
        top = load_image(inside(Path(project), "candidates", f"{over}.png"))
        below = self._pixels(base)
        if "file" in base and base.get("enlarge"):
            below = resize_image(below, (top.shape[-2], top.shape[-1])).clamp(0, 1)
        white = load_image(inside(Path(project), "masks", f"{mask}.png"))[:1]
        return keep_tensor(Path(project), composed(top, below, white))

    def _pixels(self, place: Place) -> Tensor:
        if "image" in place:
            return load_image(Path(place["image"]))
        return torch.from_numpy(self._picture(place, "").copy()).permute(2, 0, 1).float() / 255

    def _picture(self, place: Place, reader: str) -> Picture:
        if "image" in place:
            return to_picture(load_image(Path(place["image"])))
        return self._source(place["file"], place.get("deinterlace", "off"), reader).get(place["index"])

    def _source(self, file: str, deinterlace: str, reader: str) -> FrameSource:
        key = (file, deinterlace, reader)
        with self._lock:
            source = self._sources.get(key)
            if source is not None and source.is_current():
                self._sources.move_to_end(key)
                return source
            if source is not None:
                del self._sources[key]
        source = FrameSource(Path(file), self._cache, deinterlace)
        with self._lock:
            self._sources[key] = source
            gone = [self._sources.popitem(last=False)[1] for _ in range(len(self._sources) - OPEN_SOURCES)]
        for one in gone:
            one.close()
        return source
