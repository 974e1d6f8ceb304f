"""The HTTP side: the page, frames by number, commands, events."""

from __future__ import annotations

import json
import logging
import mimetypes
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from sparkvsr.errors import SparkVSRError
from sparkvsr.studio.clip_session import ClipSession
from sparkvsr.studio.edits import EDITS, image_of, mask, upload
from sparkvsr.studio.export_options import checked_export
from sparkvsr.studio.files import OutsideError, inside
from sparkvsr.studio.project import MAX_UPLOAD_BYTES
from sparkvsr.studio.studio import Studio

_log = logging.getLogger(__name__)

FOREVER = {"cache-control": "private, max-age=31536000, immutable"}
NOW = {"cache-control": "no-store"}
MAX_COMMAND_BYTES = 100_000
THUMB_HEIGHT = 96
PAGE_SUFFIXES = (".html", ".css", ".js", ".svg")


class Web:
    """The routes of one studio.

    Args:
        studio: what they are about.
    """

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._page = resources.files("sparkvsr.studio").joinpath("page")

    def app(self) -> Starlette:
        """The application, to be put behind ``security.Guard``."""
        clip = "/c/{clip:int}"
        return Starlette(
            routes=[
                Route("/", self.home),
                Route("/page/{name}", self.page),
                Route("/api/clips", self.clips),
                Route(f"{clip}/", self.clip_page),
                Route(f"{clip}/state", self.state),
                Route(f"{clip}/times", self.times),
                Route(f"{clip}/reach", self.reach),
                Route(f"{clip}/events", self.events),
                Route(f"{clip}/source/{{version}}/{{index:int}}.{{kind}}", self.source),
                Route(f"{clip}/thumb/{{version}}/{{index:int}}.jpg", self.thumb),
                Route(f"{clip}/result/{{key}}/{{index:int}}.{{kind}}", self.result),
                Route(f"{clip}/preview/{{key}}/{{index:int}}.png", self.preview),
                Route(f"{clip}/image/{{image}}.png", self.image),
                Route(f"{clip}/small/{{image}}.jpg", self.small),
                Route(f"{clip}/mask/{{image}}.png", self.mask_image),
                Route(f"{clip}/out/{{name}}", self.finished),
                Route(f"{clip}/do/{{name}}", self.do, methods=["POST"]),
                Route(f"{clip}/upload/{{index:int}}", self.upload, methods=["POST"]),
                Route(f"{clip}/paint/{{index:int}}", self.paint, methods=["POST"]),
            ],
            exception_handlers={SparkVSRError: _refused, HTTPException: _http_error, Exception: _defect},  # type: ignore[dict-item]
        )

    # The page

    async def home(self, _: Request) -> Response:
        """The list of clips, or the only one."""
        if len(self.studio.options.clips) == 1:
            return Response(status_code=303, headers={"location": "/c/0/", **NOW})
        return self._file("list.html")

    async def clip_page(self, _: Request) -> Response:
        """The page of one clip."""
        return self._file("studio.html")

    async def page(self, request: Request) -> Response:
        """Script, style and icon of the page."""
        return self._file(request.path_params["name"])

    def _file(self, name: str) -> Response:
        known = {entry.name for entry in self._page.iterdir() if entry.name.endswith(PAGE_SUFFIXES)}
        if name not in known:
            raise HTTPException(404)
        kind = mimetypes.guess_type(name)[0] or "text/plain"
        kind = "text/javascript" if name.endswith(".js") else kind
        return Response(self._page.joinpath(name).read_bytes(), media_type=kind, headers={"cache-control": "no-cache"})

    def clips(self, _: Request) -> Response:
        """The clips as JSON."""
        return JSONResponse({"clips": self.studio.listed()}, headers=NOW)

    # What there is to see

    def state(self, request: Request) -> Response:
        """The whole state of a clip."""
        return JSONResponse(self._state(self._clip(request)), headers=NOW)

    def times(self, request: Request) -> Response:
        """When each frame is shown."""
        return JSONResponse(self._clip(request).seconds(), headers=NOW)

    def reach(self, request: Request) -> Response:
        """How much keyframes cover of each frame."""
        clip = self._clip(request)
        return JSONResponse(clip.shown.shares(clip.num_frames), headers=NOW)

    async def events(self, request: Request) -> Response:
        """The stream of events."""
        clip = await anyio.to_thread.run_sync(self._clip, request)
        given = request.headers.get("last-event-id", "")
        last = int(given) if given.isascii() and given.isdigit() and len(given) < 16 else None

        async def stream() -> AsyncIterator[str]:
            yield f"data: {json.dumps({'event': 'studio', **self._facts()})}\n\n"
            async for text in clip.events.listen(last):
                yield text

        return StreamingResponse(stream(), media_type="text/event-stream", headers=NOW)

    def source(self, request: Request) -> Response:
        """A frame of the clip."""
        clip = self._clip(request)
        index = clip.check_index(request.path_params["index"])
        return _picture(clip, clip.source(index), request.path_params["kind"])

    def thumb(self, request: Request) -> Response:
        """A small frame of the clip."""
        clip = self._clip(request)
        index = clip.check_index(request.path_params["index"])
        # The filmstrip jumps about; by a reader of its own it does not disturb the one that steps.
        return _picture(clip, clip.source(index), "jpg", height=THUMB_HEIGHT, reader="filmstrip")

    def result(self, request: Request) -> Response:
        """A frame of the result."""
        clip = self._clip(request)
        index = clip.check_index(request.path_params["index"])
        return _picture(clip, clip.result(request.path_params["key"], index), request.path_params["kind"])

    def preview(self, request: Request) -> Response:
        """A previewed frame."""
        clip = self._clip(request)
        path = clip.shown.preview_path(request.path_params["index"], request.path_params["key"])
        # Rendered again after an edit outside of the key's sight (never, so far), it may change.
        return Response(path.read_bytes(), media_type="image/png", headers=FOREVER)

    def image(self, request: Request) -> Response:
        """A reference image."""
        path = self._clip(request).project.image_path(_name(request))
        return Response(path.read_bytes(), media_type="image/png", headers=FOREVER)

    def small(self, request: Request) -> Response:
        """A reference image, small."""
        clip = self._clip(request)
        place = {"image": str(clip.project.image_path(_name(request)))}
        return _picture(clip, place, "jpg", height=2 * THUMB_HEIGHT)

    def mask_image(self, request: Request) -> Response:
        """A painted mask."""
        path = self._clip(request).project.path("masks", f"{_name(request)}.png")
        if not path.is_file():
            raise HTTPException(404)
        return Response(path.read_bytes(), media_type="image/png", headers=FOREVER)

    def finished(self, request: Request) -> Response:
        """A finished file, to keep."""
        path = inside(self._clip(request).project.folder, "out", request.path_params["name"])
        if not path.is_file():
            raise HTTPException(404)
        # Never shown as a page of the studio's own: a file is data.
        return FileResponse(path, filename=path.name, media_type="application/octet-stream", headers=NOW)

    # What there is to do

    async def do(self, request: Request) -> Response:
        """One command."""
        data = await _body(request, MAX_COMMAND_BYTES, ("application/json",))
        try:
            values = json.loads(data or b"{}")
        except (ValueError, RecursionError):
            raise HTTPException(400, "the command is not JSON") from None
        if not isinstance(values, dict):
            raise HTTPException(400, "the command is not an object")
        return await anyio.to_thread.run_sync(self._do, request, request.path_params["name"], values)

    def _do(self, request: Request, name: str, values: dict[str, Any]) -> Response:
        clip = self._clip(request)
        studio = self.studio
        requests: dict[str, Callable[[ClipSession, dict[str, Any]], None]] = {
            "add": studio.add,
            "preview": studio.preview,
            "render": studio.render_range,
            "export": studio.export,
            "suggest": studio.suggest,
        }
        if name in EDITS:
            EDITS[name](clip, values)
            self._follow(clip, values)
        elif name in requests:
            requests[name](clip, values)
        elif name == "cancel":
            number = values.get("id")
            studio.queue.cancel(number if isinstance(number, int) else -1)
        elif name == "command":
            output = str(values.get("output") or "out.mp4")
            inside(clip.project.folder, "out", output)
            line = clip.command(output, checked_export(values))
            return JSONResponse({"command": line}, headers=NOW)
        else:
            raise HTTPException(404)
        return JSONResponse({"done": True}, headers=NOW)

    async def upload(self, request: Request) -> Response:
        """An image for a frame."""
        data = await _body(request, MAX_UPLOAD_BYTES, ("application/octet-stream", "image/"))
        return await anyio.to_thread.run_sync(self._upload, request, data)

    def _upload(self, request: Request, data: bytes) -> Response:
        clip = self._clip(request)
        upload(clip, request.path_params["index"], data)
        self._follow_if_wished(clip, request)
        return JSONResponse({"done": True}, headers=NOW)

    async def paint(self, request: Request) -> Response:
        """A mask for an image of a frame."""
        data = await _body(request, MAX_UPLOAD_BYTES, ("image/png",))
        return await anyio.to_thread.run_sync(self._paint, request, data)

    def _paint(self, request: Request, data: bytes) -> Response:
        clip = self._clip(request)
        base = request.query_params.get("base", "")
        if base not in ("output", "source"):
            base = image_of(request.query_params, "base")
        mask(clip, request.path_params["index"], data, image_of(request.query_params, "over"), base)
        self._follow_if_wished(clip, request)
        return JSONResponse({"done": True}, headers=NOW)

    # Small parts

    def _clip(self, request: Request) -> ClipSession:
        return self.studio.clip(request.path_params["clip"])

    def _facts(self) -> dict[str, Any]:
        studio = self.studio
        return {
            "ready": studio.ready,
            "makers": studio.makers(),
            "failed": studio.error,
            "clips": len(studio.options.clips),
        }

    def _state(self, clip: ClipSession) -> dict[str, Any]:
        return {**clip.state(), **self._facts()}

    def _follow(self, clip: ClipSession, values: dict[str, Any]) -> None:
        """After an edit, show what it does where the user looks."""
        if isinstance(values.get("here"), int):
            self.studio.preview(clip, values)

    def _follow_if_wished(self, clip: ClipSession, request: Request) -> None:
        """The same for what is sent as it is."""
        if request.query_params.get("follow") == "1":
            self._follow(clip, {"here": request.path_params["index"]})


def _name(request: Request) -> str:
    name: str = image_of(request.path_params, "image")
    return name


def _picture(clip: ClipSession, place: dict[str, Any], kind: str, **more: Any) -> Response:
    if kind not in ("png", "jpg"):
        raise HTTPException(404)
    media = "image/png" if kind == "png" else "image/jpeg"
    return Response(clip.ask("frame", place=place, kind=kind, **more), media_type=media, headers=FOREVER)


async def _body(request: Request, limit: int, kinds: tuple[str, ...]) -> bytes:
    """The body, read no further than allowed."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not any(kind == one or (one.endswith("/") and kind.startswith(one)) for one in kinds) or "svg" in kind:
        raise HTTPException(415, f"send {' or '.join(kinds)}")
    announced = request.headers.get("content-length", "0")
    too_large = f"at most {limit >> 20} MB are taken" if limit >= 2**20 else "the command is too long"
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise HTTPException(413, too_large)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise HTTPException(413, too_large)
        parts.append(part)
    return b"".join(parts)


async def _refused(request: Request, error: SparkVSRError) -> Response:
    status = 404 if request.method == "GET" or isinstance(error, OutsideError) else 409
    return JSONResponse({"error": str(error)}, status_code=status, headers=NOW)


async def _http_error(_: Request, error: HTTPException) -> Response:
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=NOW)


async def _defect(request: Request, error: Exception) -> Response:
    _log.error("request %s %s failed", request.method, request.url.path, exc_info=error)
    text = f"unexpected {type(error).__name__}: a defect of sparkvsr; the terminal says more with -v"
    return JSONResponse({"error": text}, status_code=500, headers=NOW)
