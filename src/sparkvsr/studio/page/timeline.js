// The timeline: filmstrip, shots and I-frames, keyframes, what is rendered, and how far keyframes reach.

import { byId, timecode, within } from "./dom.js";
import { frames, model, on, queuedRanges, seconds, segmentAt, setFrame, shotAt, smallUrl, thumbUrl } from "./model.js";

const holder = byId("timeline");
const canvas = byId("lanes");
const context = canvas.getContext("2d");
const LABELS = 76;
const ROWS = [
  ["film", "", 54], ["shots", "Shots", 14], ["keys", "Keyframes", 26], ["done", "Rendered", 14], ["reach", "Reach", 30],
];
export const window_ = { start: 0, stop: 1, whole: true };
const thumbs = new Map();   // address -> ImageBitmap, or null while it is fetched
const waiting = [];
let fetching = 0;
let scheduled = false;

export function redrawTimeline() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    draw();
  });
}

const ratio = () => window.devicePixelRatio || 1;
const span = () => window_.stop - window_.start;
const xOf = (index, width) => LABELS + ((index - window_.start) / span()) * (width - LABELS);

function frameAt(clientX) {
  const box = canvas.getBoundingClientRect();
  const share = (clientX - box.left - LABELS) / (box.width - LABELS);
  return Math.floor(window_.start + share * span());
}

function thumb(url) {
  if (thumbs.has(url)) return thumbs.get(url);
  thumbs.set(url, null);
  waiting.push(url);
  pump();
  return null;
}

// One after the other: the picture in the middle of the page comes first.
async function pump() {
  if (fetching > 0) return;
  fetching += 1;
  while (waiting.length) {
    const url = waiting.pop();
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(String(answer.status));
      thumbs.set(url, await createImageBitmap(await answer.blob()));
    } catch {
      thumbs.delete(url);
    }
    if (thumbs.size > 600) thumbs.delete(thumbs.keys().next().value);
    redrawTimeline();
  }
  fetching -= 1;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(
    ["text", "dim", "line", "lane", "accent", "done", "previewed", "old", "queued", "reach", "panel"].map((name) => [name, colour(name)]),
  );
}

function draw() {
  const width = holder.clientWidth, height = ROWS.reduce((sum, row) => sum + row[2] + 4, 8);
  const scale = ratio();
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
  }
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  if (!model.state) return;
  if (window_.whole) Object.assign(window_, { start: 0, stop: frames() });
  const colour = colours();
  context.font = "12px system-ui, sans-serif";
  context.textBaseline = "middle";
  let top = 4;
  const tops = {};
  for (const [name, label, tall] of ROWS) {
    tops[name] = [top, tall];
    context.fillStyle = colour.dim;
    context.fillText(label, 8, top + tall / 2);
    context.fillStyle = colour.lane;
    context.fillRect(LABELS, top, width - LABELS, tall);
    top += tall + 4;
  }
  context.save();
  context.beginPath();
  context.rect(LABELS, 0, width - LABELS, height);
  context.clip();
  drawFilm(tops.film, width);
  drawShots(tops.shots, width, colour);
  drawDone(tops.done, width, colour);
  drawReach(tops.reach, width, colour);
  drawKeys(tops.keys, width, colour);
  drawHead(width, height, colour);
  context.restore();
}

// The frame of a slot of the filmstrip. Where a slot stands for many frames an I-frame in it will do: it is decoded at once.
function filmFrame(middle, wide) {
  const index = within(Math.floor(middle), 0, frames() - 1);
  const { iframes } = model.state;
  if (wide < 12 || !iframes.length) return index;
  let low = 0, high = iframes.length - 1;
  while (low < high) {
    const half = (low + high) >> 1;
    if (iframes[half] < index) low = half + 1;
    else high = half;
  }
  const near = low > 0 && index - iframes[low - 1] < Math.abs(iframes[low] - index) ? iframes[low - 1] : iframes[low];
  return Math.abs(near - index) <= wide / 2 ? near : index;
}

function drawFilm([top, tall], width) {
  const { clip } = model.state;
  const wide = (clip.width / clip.height) * tall;
  const count = Math.max(1, Math.ceil((width - LABELS) / wide));
  for (let place = 0; place < count; place += 1) {
    const left = LABELS + place * wide;
    const index = filmFrame(window_.start + ((place + 0.5) / count) * span(), span() / count);
    const bitmap = thumb(thumbUrl(index));
    if (bitmap) context.drawImage(bitmap, left, top, wide, tall);
  }
}

function drawShots([top, tall], width, colour) {
  model.state.shots.forEach(([start, stop], number) => {
    if (stop < window_.start || start > window_.stop) return;
    const left = xOf(start, width);
    context.globalAlpha = number % 2 ? 0.25 : 0.5;
    context.fillStyle = colour.accent;
    context.fillRect(left, top, xOf(stop, width) - left, tall);
    context.globalAlpha = 1;
    context.fillStyle = colour.text;
    if (start > 0) context.fillRect(left - 0.5, top - 2, 1.5, tall + 4);
  });
  context.fillStyle = colour.text;
  for (const index of model.state.iframes) {
    if (index >= window_.start && index < window_.stop) context.fillRect(xOf(index, width), top + tall - 4, 1, 4);
  }
  if (model.state.analysis) {
    const { done, total } = model.state.analysis;
    context.fillStyle = colour.text;
    context.fillText(`looking for cuts: ${Math.round((100 * done) / Math.max(1, total))} %`, LABELS + 8, top + tall / 2);
  }
}

function drawKeys([top, tall], width, colour) {
  const { clip, keyframes, making } = model.state;
  const high = tall - 2, wide = Math.min(44, (clip.width / clip.height) * high);
  for (const one of keyframes) {
    const x = xOf(one.index + 0.5, width);
    if (x < LABELS - wide || x > width + wide) continue;
    const bitmap = thumb(smallUrl(one.image));
    context.globalAlpha = one.enabled ? 1 : 0.35;
    if (bitmap) context.drawImage(bitmap, x - wide / 2, top + 1, wide, high);
    context.globalAlpha = 1;
    const isBad = (one.findings || []).length > 0;
    context.strokeStyle = one.index === model.frame ? colour.text : isBad ? colour.old : colour.accent;
    context.lineWidth = one.index === model.frame ? 2 : 1;
    context.setLineDash(one.enabled ? [] : [3, 2]);
    context.strokeRect(x - wide / 2, top + 1, wide, high);
    context.setLineDash([]);
    context.fillStyle = colour.accent;
    context.fillRect(x - wide / 2, top + tall - 3, wide * (one.enabled ? one.weight : 0), 3);
  }
  context.strokeStyle = colour.dim;
  context.lineWidth = 1;
  for (const one of making) {
    context.setLineDash([2, 2]);
    context.strokeRect(xOf(one.index + 0.5, width) - wide / 2, top + 1, wide, high);
    context.setLineDash([]);
  }
}

function drawDone([top, tall], width, colour) {
  for (const item of queuedRanges()) {
    const left = xOf(item.start, width);
    context.fillStyle = colour.queued;
    context.fillRect(left, top, xOf(item.stop, width) - left, tall);
  }
  for (const [start, stop, , stored, old] of model.state.segments) {
    if (!stored && !old) continue;
    const left = xOf(start, width);
    context.fillStyle = stored ? colour.done : colour.old;
    context.fillRect(left, top + 2, Math.max(1, xOf(stop, width) - left - 0.5), tall - 4);
  }
  context.fillStyle = colour.previewed;
  const one = Math.max(1.5, (width - LABELS) / span());
  for (const [index, key] of Object.entries(model.state.previews)) {
    const segment = segmentAt(Number(index));
    if (segment && segment[2] === key && !segment[3]) context.fillRect(xOf(Number(index), width), top + 3, one, tall - 6);
  }
}

function drawReach([top, tall], width, colour) {
  context.fillStyle = colour.reach;
  const columns = Math.max(1, Math.floor(width - LABELS));
  const per = span() / columns;
  for (let column = 0; column < columns; column += 1) {
    const first = Math.floor(window_.start + column * per);
    const last = Math.max(first + 1, Math.floor(window_.start + (column + 1) * per));
    let sum = 0, count = 0;
    for (let index = first; index < last; index += 1) {
      const share = model.reach[index];
      if (share !== null && share !== undefined) {
        sum += share;
        count += 1;
      }
    }
    if (!count) continue;
    const high = Math.max(1, (sum / count) * tall);
    context.fillRect(LABELS + column, top + tall - high, 1, high);
  }
}

function drawHead(width, height, colour) {
  const left = xOf(model.frame, width), right = xOf(model.frame + 1, width);
  context.fillStyle = colour.text;
  if (right - left > 5) {
    context.globalAlpha = 0.18;
    context.fillRect(left, 0, right - left, height);
    context.globalAlpha = 1;
  }
  context.fillRect((left + right) / 2 - 0.75, 0, 1.5, height);
}

export function zoomTimeline(factor, around = model.frame) {
  const total = frames();
  const next = within(span() * factor, Math.min(24, total), total);
  const share = (around - window_.start) / span();
  const start = within(around - share * next, 0, total - next);
  Object.assign(window_, { start, stop: start + next, whole: next >= total });
  redrawTimeline();
}

function keepInSight() {
  if (window_.whole || (model.frame >= window_.start && model.frame < window_.stop)) return;
  const wide = span();
  const start = within(model.frame - wide / 2, 0, frames() - wide);
  Object.assign(window_, { start, stop: start + wide });
}

function describe() {
  if (!model.state) return;
  holder.setAttribute("aria-valuemax", String(frames() - 1));
  holder.setAttribute("aria-valuenow", String(model.frame));
  const [start, stop] = shotAt(model.frame);
  holder.setAttribute("aria-valuetext", `Frame ${model.frame}, ${timecode(seconds(model.frame))}, shot ${start} to ${stop - 1}`);
}

export function startTimeline() {
  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    dragging = true;
    seek(event);
  });
  canvas.addEventListener("pointermove", (event) => dragging && seek(event, true));
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { dragging = false; });
  function seek(event, moving = false) {
    const box = canvas.getBoundingClientRect();
    if (event.clientX - box.left < LABELS - 4 && !moving) return;
    let index = within(frameAt(event.clientX), 0, frames() - 1);
    const y = event.clientY - box.top;
    if (!moving && y > 76 && y < 106) {
      // On the lane of keyframes the nearest one is meant.
      const near = (model.state.keyframes || []).map((one) => one.index)
        .filter((one) => Math.abs(xOf(one, box.width) - (event.clientX - box.left)) < 24);
      if (near.length) index = near.reduce((a, b) => (Math.abs(a - index) <= Math.abs(b - index) ? a : b));
    }
    setFrame(index);
  }
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey || Math.abs(event.deltaY) > Math.abs(event.deltaX)) zoomTimeline(2 ** (event.deltaY / 400), frameAt(event.clientX));
    else {
      const move = (event.deltaX / 800) * span();
      const start = within(window_.start + move, 0, frames() - span());
      Object.assign(window_, { start, stop: start + span() });
      redrawTimeline();
    }
  }, { passive: false });
  new ResizeObserver(redrawTimeline).observe(holder);
  on("frame", () => {
    keepInSight();
    describe();
    redrawTimeline();
  });
  on("state preview reach", () => {
    describe();
    redrawTimeline();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawTimeline);
}
