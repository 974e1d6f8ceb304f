"""The page of `sparkvsr compare a b -o compare.html`: one file, no network, works from disk."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PagePair:
    """One frame of both clips: number, time, and two ``data:`` addresses."""

    index: int
    seconds: float
    first: str
    second: str


@dataclass(frozen=True)
class ComparePage:
    """What a page shows.

    Attributes:
        labels: of the two clips.
        size: ``(H, W)`` of the pictures.
        pairs: at least one.
        notes: lines below the picture.
    """

    labels: tuple[str, str]
    size: tuple[int, int]
    pairs: Sequence[PagePair]
    notes: Sequence[str] = ()


def render_page(page: ComparePage) -> str:
    """The page as text. Labels and notes may hold anything: they are escaped."""
    frames = [
        {"index": pair.index, "seconds": round(pair.seconds, 3), "first": pair.first, "second": pair.second}
        for pair in page.pairs
    ]
    # Inside <script>, "</" would end it whatever JSON says.
    data = json.dumps(frames).replace("</", "<\\/")
    first, second = (html.escape(label) for label in page.labels)
    values = {
        "@TITLE@": f"{first} | {second}",
        "@FIRST@": first,
        "@SECOND@": second,
        "@WIDTH@": str(page.size[1]),
        "@HEIGHT@": str(page.size[0]),
        "@LAST@": str(len(frames) - 1),
        "@NOTES@": "".join(f"<p>{html.escape(note)}</p>" for note in page.notes),
    }
    values["@FRAMES@"] = data
    # One pass: a label that looks like a placeholder stays what it is.
    return re.sub("|".join(values), lambda match: values[match[0]], _TEMPLATE)


# No address outside the file can be loaded: the policy allows data: pictures, and the inline style and script.
_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>@TITLE@</title>
<style>
:root { color-scheme: dark; }
body { margin: 0; background: #16181b; color: #e8e8e8; font: 15px/1.5 system-ui, sans-serif; }
main { max-width: max(@WIDTH@px, 720px); margin: 0 auto; padding: 12px; }
#stage { position: relative; overflow: hidden; cursor: ew-resize; touch-action: none; user-select: none;
 aspect-ratio: @WIDTH@ / @HEIGHT@; background: #000; outline-offset: 3px; }
#stage img { position: absolute; inset: 0; width: 100%; height: 100%; display: block; pointer-events: none; }
#line { position: absolute; top: 0; bottom: 0; width: 2px; margin-left: -1px; background: #fff; pointer-events: none;
 box-shadow: 0 0 4px #000; }
.tag { position: absolute; bottom: 8px; padding: 1px 8px; background: #000a; border-radius: 3px; pointer-events: none;
 max-width: 45%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#tag-first { left: 8px; } #tag-second { right: 8px; }
.row { display: flex; gap: 12px; align-items: center; margin-top: 10px; }
.row input { flex: 1; } .row output { min-width: 12em; text-align: right; font-variant-numeric: tabular-nums; }
.row label { min-width: 4em; }
footer { color: #a9adb3; font-size: 13px; margin-top: 8px; } footer p { margin: 0; }
kbd { border: 1px solid #666; border-radius: 3px; padding: 0 4px; }
</style>
</head>
<body>
<main>
<div id="stage" tabindex="0" role="img" aria-label="Comparison of @FIRST@ and @SECOND@">
<img id="second" alt="@SECOND@"><img id="first" alt="@FIRST@"><div id="line"></div>
<div class="tag" id="tag-first">@FIRST@</div><div class="tag" id="tag-second">@SECOND@</div>
</div>
<div class="row"><label for="frame">Frame</label>
<input id="frame" type="range" min="0" max="@LAST@" value="0" step="1"><output id="where"></output></div>
<div class="row"><label for="wipe">Line</label>
<input id="wipe" type="range" min="0" max="100" value="50" step="0.5"><output id="split"></output></div>
<footer>
<p>Move the line with the mouse. <kbd>&larr;</kbd> <kbd>&rarr;</kbd> frame, <kbd>&uarr;</kbd> <kbd>&darr;</kbd> line,
<kbd>1</kbd> only the first, <kbd>2</kbd> only the second, <kbd>space</kbd> swaps, <kbd>Home</kbd> <kbd>End</kbd></p>
@NOTES@
</footer>
</main>
<script>
"use strict";
const frames = @FRAMES@;
const byId = (id) => document.getElementById(id);
const stage = byId("stage"), first = byId("first"), second = byId("second");
let frame = 0, wipe = 50;
const within = (value, low, high) => Math.min(high, Math.max(low, value));

function show() {
  const item = frames[frame];
  if (first.dataset.index !== String(item.index)) {
    first.src = item.first; second.src = item.second;
    first.dataset.index = second.dataset.index = String(item.index);
  }
  first.style.clipPath = `inset(0 ${100 - wipe}% 0 0)`;
  byId("line").style.left = wipe + "%";
  byId("tag-first").style.visibility = wipe > 0 ? "visible" : "hidden";
  byId("tag-second").style.visibility = wipe < 100 ? "visible" : "hidden";
  byId("frame").value = frame; byId("wipe").value = wipe;
  const minutes = Math.floor(item.seconds / 60), seconds = (item.seconds % 60).toFixed(2).padStart(5, "0");
  byId("where").textContent = `${item.index} at ${minutes}:${seconds} (${frame + 1} of ${frames.length})`;
  byId("split").textContent = `${Math.round(wipe)} %`;
}
function setFrame(value) { frame = within(Math.round(value), 0, frames.length - 1); show(); }
function setWipe(value) { wipe = within(value, 0, 100); show(); }

byId("frame").addEventListener("input", (event) => setFrame(Number(event.target.value)));
byId("wipe").addEventListener("input", (event) => setWipe(Number(event.target.value)));
function follow(event) {
  const box = stage.getBoundingClientRect();
  setWipe(100 * (event.clientX - box.left) / box.width);
}
stage.addEventListener("pointerdown", (event) => {
  try { stage.setPointerCapture(event.pointerId); } catch { /* the pointer is gone already */ }
  follow(event);
});
stage.addEventListener("pointermove", (event) => {
  if (event.pointerType === "mouse" || event.buttons) follow(event);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    ArrowLeft: () => setFrame(frame - 1), ArrowRight: () => setFrame(frame + 1),
    Home: () => setFrame(0), End: () => setFrame(frames.length - 1),
    ArrowUp: () => setWipe(wipe + 5), ArrowDown: () => setWipe(wipe - 5),
    "1": () => setWipe(100), "2": () => setWipe(0), " ": () => setWipe(wipe >= 50 ? 0 : 100),
  };
  if (event.key in actions) { actions[event.key](); event.preventDefault(); }
});
show();
</script>
</body>
</html>
"""
