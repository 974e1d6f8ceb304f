// The picture: source, result and reference, alone or compared; zoom at the pointer; nearest neighbour from 2x on.

import { byId, within } from "./dom.js";
import { emit, frames, imageUrl, model, on, referenceFor, resultOf, resultSize, sourceUrl } from "./model.js";
import { onPicture, peek, want } from "./pictures.js";

const canvas = byId("picture");
const stage = byId("stage");
const context = canvas.getContext("2d", { alpha: false });
const AHEAD = 8, BEHIND = 3;

export const view = { scale: 1, x: 0, y: 0, fitted: true, wipe: 0.5, playing: 0, direction: 1, flipped: false };
let overlay = null;     // draws on top (the brush)
let scheduled = false;
const NAMES = { source: "Source", result: "Result", reference: "Reference" };

export function setOverlay(draw) {
  overlay = draw;
  redraw();
}

export function redraw() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}

// Lossless from one to one on: artefacts of JPEG must not be taken for the model's. Playing is for motion.
const kindNow = () => (view.scale >= 0.999 && !view.playing ? "png" : "jpg");

function urlOf(what, index, kind) {
  if (what === "source") return sourceUrl(index, kind);
  if (what === "reference") {
    const keyframe = referenceFor(index);
    return keyframe ? imageUrl(keyframe.image) : null;
  }
  return resultOf(index, kind).url;
}

export function shownParts() {
  const [first, second] = model.pair;
  if (model.mode === "source" || model.mode === "result" || model.mode === "reference") {
    return [view.flipped ? (model.mode === "source" ? "result" : "source") : model.mode];
  }
  return view.flipped ? [second, first] : [first, second];
}

function neededUrls() {
  const parts = shownParts();
  const kind = kindNow();
  const urls = [];
  const step = view.direction;
  for (let ahead = 0; ahead <= AHEAD; ahead += 1) {
    const index = model.frame + step * ahead;
    if (index < 0 || index >= frames()) break;
    for (const part of parts) urls.push(urlOf(part, index, kind) || sourceUrl(index, kind));
  }
  for (let behind = 1; behind <= BEHIND; behind += 1) {
    const index = model.frame - step * behind;
    if (index >= 0 && index < frames()) for (const part of parts) urls.push(urlOf(part, index, kind));
  }
  // The other side of a flip is at hand, too.
  for (const part of ["source", "result"]) urls.push(urlOf(part, model.frame, kind));
  return [...new Set(urls.filter(Boolean))];
}

// The picture of a part, in the best kind that is at hand; null while it is fetched.
function bitmapOf(part, index) {
  const kind = kindNow();
  const wanted = urlOf(part, index, kind);
  const other = urlOf(part, index, kind === "png" ? "jpg" : "png");
  return (wanted && peek(wanted)) || (other && peek(other)) || null;
}

// Whether everything of a frame is there to be shown (playback waits for it).
export function isReady(index) {
  return shownParts().every((part) => !urlOf(part, index, kindNow()) || bitmapOf(part, index));
}

function resize() {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(stage.clientWidth * ratio));
  const height = Math.max(1, Math.round(stage.clientHeight * ratio));
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    if (view.fitted && model.state) fit();
  }
}

export function fit() {
  const [height, width] = resultSize();
  view.scale = Math.min(canvas.width / width, canvas.height / height);
  view.fitted = true;
  view.x = Math.round((canvas.width - width * view.scale) / 2);
  view.y = Math.round((canvas.height - height * view.scale) / 2);
  changedZoom();
}

// Zoom so that the picture stays under a point of the canvas (device pixels).
export function zoomTo(scale, x = canvas.width / 2, y = canvas.height / 2) {
  const next = within(scale, 0.05, 32);
  view.x = Math.round(x - (x - view.x) * (next / view.scale));
  view.y = Math.round(y - (y - view.y) * (next / view.scale));
  view.scale = next;
  view.fitted = false;
  changedZoom();
}

function changedZoom() {
  byId("zoom-now").textContent = `${Math.round(view.scale * 100)} %`;
  want(neededUrls());
  redraw();
}

// Where a pointer event is on the canvas, in device pixels.
function onCanvas(event) {
  const box = canvas.getBoundingClientRect();
  const ratio = canvas.width / box.width;
  return { x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio };
}

// From a pointer event to a place in the result, 0 to 1 in both directions.
export function placeOf(event) {
  const [height, width] = resultSize();
  const { x, y } = onCanvas(event);
  return { x: (x - view.x) / (width * view.scale), y: (y - view.y) / (height * view.scale) };
}

// The other way round: where such a place is on the canvas, in device pixels.
export function pointOf({ x, y }) {
  const [height, width] = resultSize();
  return { x: view.x + x * width * view.scale, y: view.y + y * height * view.scale };
}

function paintLayer(bitmap, alpha = 1) {
  const [height, width] = resultSize();
  context.globalAlpha = alpha;
  // On a large screen the whole picture is more than 2x, and is to be looked at, not counted.
  context.imageSmoothingEnabled = view.fitted || view.scale < 2;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, view.x, view.y, width * view.scale, height * view.scale);
  context.globalAlpha = 1;
}

function draw() {
  resize();
  const style = getComputedStyle(document.documentElement);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalCompositeOperation = "source-over";
  context.filter = "none";
  context.fillStyle = style.getPropertyValue("--stage");
  context.fillRect(0, 0, canvas.width, canvas.height);
  if (!model.state) return;
  if (overlay) {
    overlay(context, paintLayer);
    return;
  }
  const parts = shownParts();
  const index = model.frame;
  const bitmaps = parts.map((part) => bitmapOf(part, index) || bitmapOf("source", index));
  const [height, width] = resultSize();
  let complete = parts.every((part) => bitmapOf(part, index) || (!urlOf(part, index) && bitmapOf("source", index)));
  if (bitmaps[0] && (parts.length === 1 || !bitmaps[1])) paintLayer(bitmaps[0]);
  else if (bitmaps[0] && model.mode === "wipe") {
    paintLayer(bitmaps[1]);
    const split = Math.round(view.x + width * view.scale * view.wipe);
    context.save();
    context.beginPath();
    context.rect(0, 0, split, canvas.height);
    context.clip();
    context.fillRect(0, 0, split, canvas.height);
    paintLayer(bitmaps[0]);
    context.restore();
    context.fillStyle = "#fff";
    const top = Math.max(0, view.y), bottom = Math.min(canvas.height, view.y + height * view.scale);
    context.fillRect(split - 1, top, 2, bottom - top);
  } else if (bitmaps[0] && model.mode === "difference") {
    context.filter = "none";
    paintLayer(bitmaps[0]);
    context.globalCompositeOperation = "difference";
    paintLayer(bitmaps[1]);
    // Four times as bright: small differences are what one looks for.
    context.globalCompositeOperation = "color-dodge";
    context.fillStyle = "rgb(191, 191, 191)";
    context.fillRect(view.x, view.y, width * view.scale, height * view.scale);
    context.globalCompositeOperation = "source-over";
  } else if (bitmaps[0]) {
    paintLayer(bitmaps[0]);
    paintLayer(bitmaps[1], 0.5);
  } else complete = false;
  tags(parts);
  canvas.dataset.frame = String(index);
  canvas.dataset.complete = String(complete);
  if (complete) emit("drawn", index);
}

function tags(parts) {
  const words = { done: "", previewed: " (preview)", old: " (old)", missing: ": not rendered yet" };
  const name = (part) => {
    if (part === "result") {
      const { state } = resultOf(model.frame);
      const doing = model.previewing;
      const isComing = doing && state !== "done" && state !== "previewed" && model.frame >= doing.start && model.frame < doing.stop;
      return `Result${isComing ? ": being rendered\u2026" : words[state]}`;
    }
    if (part === "reference") {
      const keyframe = referenceFor(model.frame);
      return keyframe ? `Reference of ${keyframe.index}` : "No reference in this shot";
    }
    return NAMES[part];
  };
  const texts = model.mode === "difference" ? [`Difference x4: ${name(parts[0])}`, name(parts[1])] : parts.map(name);
  byId("tag-left").textContent = texts[0];
  byId("tag-right").textContent = texts[1] || "";
  byId("tag-left").hidden = Boolean(overlay);
  byId("tag-right").hidden = !texts[1] || Boolean(overlay);
  canvas.setAttribute("aria-label", `Frame ${model.frame}: ${texts.filter(Boolean).join(", ")}`);
}

function pointers() {
  let dragging = null;
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const { x, y } = onCanvas(event);
    zoomTo(view.scale * 2 ** (-event.deltaY / 300), x, y);
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    if (overlay) return;
    stage.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    const moves = event.button === 1 || event.shiftKey || model.mode !== "wipe";
    dragging = { x: event.clientX, y: event.clientY, wipes: !moves };
    if (dragging.wipes) setWipe(placeOf(event).x);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!dragging) return;
    if (dragging.wipes) {
      setWipe(placeOf(event).x);
      return;
    }
    const ratio = canvas.width / canvas.getBoundingClientRect().width;
    pan((event.clientX - dragging.x) * ratio, (event.clientY - dragging.y) * ratio);
    dragging.x = event.clientX;
    dragging.y = event.clientY;
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { dragging = null; });
  canvas.addEventListener("dblclick", (event) => {
    const { x, y } = onCanvas(event);
    if (!overlay) toggleZoom(x, y);
  });
}

// Between the whole picture and one to one, at a place.
export function toggleZoom(x, y) {
  if (view.fitted) zoomTo(1, x, y);
  else fit();
}

export function pan(x, y) {
  view.x = Math.round(view.x + x);
  view.y = Math.round(view.y + y);
  view.fitted = false;
  redraw();
}

export function setWipe(value) {
  view.wipe = within(value, 0, 1);
  redraw();
}

export function refresh() {
  if (!model.state) return;
  want(neededUrls());
  redraw();
}

export function startViewer() {
  pointers();
  onPicture(redraw);
  new ResizeObserver(() => {
    resize();
    redraw();
  }).observe(stage);
  on("frame", ({ before, now }) => {
    if (Math.abs(now - before) < 200) view.direction = now >= before ? 1 : -1;
    view.flipped = false;
    refresh();
  });
  on("state mode preview", refresh);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}
