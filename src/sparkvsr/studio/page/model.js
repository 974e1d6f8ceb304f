// What the page knows of the clip, and what follows from it. Modules subscribe to changes by topic.

import { address } from "./api.js";
import { within } from "./dom.js";

const listeners = new Map();

export const model = {
  state: null,       // as the server gives it
  studio: { ready: null, makers: [], failed: null, clips: 1 },
  times: [],         // seconds of each frame
  reach: [],         // how much keyframes cover of each frame, or null
  frame: 0,
  previewing: null,  // { start, stop } of the frames that are being rendered around a place
  connected: true,
  mode: "wipe",
  pair: ["source", "result"],
  live: true,
};

export function on(topics, listener) {
  for (const topic of topics.split(" ")) {
    if (!listeners.has(topic)) listeners.set(topic, []);
    listeners.get(topic).push(listener);
  }
}

export function emit(topic, value) {
  for (const listener of listeners.get(topic) || []) listener(value);
}

export const frames = () => (model.state ? model.state.clip.frames : 1);

export function setFrame(index) {
  const next = within(Math.round(index), 0, frames() - 1);
  if (next === model.frame) return;
  const before = model.frame;
  model.frame = next;
  emit("frame", { before, now: next });
}

export function keyframeAt(index) {
  return model.state ? model.state.keyframes.find((one) => one.index === index) : undefined;
}

// The keyframe whose picture is the reference of a frame: its own, or the nearest in its shot.
export function referenceFor(index) {
  const own = keyframeAt(index);
  if (own || !model.state) return own;
  const [start, stop] = shotAt(index);
  let best;
  for (const one of model.state.keyframes) {
    if (one.index < start || one.index >= stop || !one.enabled) continue;
    if (!best || Math.abs(one.index - index) < Math.abs(best.index - index)) best = one;
  }
  return best;
}

export function shotAt(index) {
  const shots = model.state ? model.state.shots : [];
  return shots.find(([start, stop]) => index >= start && index < stop) || [0, frames()];
}

export function segmentAt(index) {
  const segments = model.state ? model.state.segments : [];
  let low = 0, high = segments.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const [start, stop] = segments[middle];
    if (index < start) high = middle - 1;
    else if (index >= stop) low = middle + 1;
    else return segments[middle];
  }
  return null;
}

// What there is of the result of a frame: its state and its address ("png" is lossless).
export function resultOf(index, kind = "jpg") {
  const segment = segmentAt(index);
  const preview = model.state ? model.state.previews[index] : undefined;
  if (segment) {
    const [, , key, stored, old] = segment;
    if (stored) return { state: "done", url: address(`result/${key}/${index}.${kind}`) };
    if (preview === key) return { state: "previewed", url: address(`preview/${key}/${index}.png`) };
    if (old) return { state: "old", url: address(`result/${old}/${index}.${kind}`) };
  }
  if (preview) return { state: "old", url: address(`preview/${preview}/${index}.png`) };
  return { state: "missing", url: null };
}

export function sourceUrl(index, kind = "jpg") {
  const { clip } = model.state;
  const small = clip.width * clip.height < 500000;
  return address(`source/${clip.version}/${index}.${small ? "png" : kind}`);
}

export const imageUrl = (image) => address(`image/${image}.png`);
export const smallUrl = (image) => address(`small/${image}.jpg`);
export const thumbUrl = (index) => address(`thumb/${model.state.clip.version}/${index}.jpg`);

// Size of the result in pixels: [height, width].
export function resultSize() {
  const { clip, size } = model.state;
  return size || [clip.height * 4, clip.width * 4];
}

export const seconds = (index) => model.times[index] ?? index / (model.state ? model.state.clip.fps : 24);

export function queuedRanges() {
  return model.state ? model.state.queue.filter((item) => item.kind !== "export") : [];
}
