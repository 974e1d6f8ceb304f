// What buttons and keys do. Every command says in words when it does not work.

import { send, upload } from "./api.js";
import { byId } from "./dom.js";
import { emit, frames, keyframeAt, model, seconds, setFrame } from "./model.js";

let hiding = 0;

export function notice(text, isProblem = false) {
  const place = byId("notice");
  // A sentence begins with a capital letter, the name of a file stays as it is.
  place.textContent = text.replace(/^[a-z]+(?=[ ,:])/, (word) => word.charAt(0).toUpperCase() + word.slice(1));
  place.className = isProblem ? "problem shown" : "shown";
  clearTimeout(hiding);
  hiding = setTimeout(() => { place.className = ""; }, isProblem ? 9000 : 3500);
}

export async function act(name, values = {}) {
  try {
    return await send(name, values);
  } catch (error) {
    notice(error.message, true);
    return null;
  }
}

// An edit also renders around the frame that is looked at, if wished.
export const edit = (name, values = {}) => act(name, model.live ? { ...values, here: model.frame } : values);

export const renderHere = () => act("preview", { here: model.frame });
export const renderShot = () => act("render", { what: "shot", here: model.frame });
export const renderAll = () => act("render", { what: "all", here: model.frame });

// A maker makes an image for this frame; what it does is shown when it is there.
export const addKeyframe = (maker = 0, more = {}) => edit("add", { index: model.frame, maker, ...more });

// What is sent as it is, with the wish to see what it does.
const uploadEdit = (path, blob) => upload(model.live ? `${path}${path.includes("?") ? "&" : "?"}follow=1` : path, blob);
export const uploadMask = (index, over, base, blob) => uploadEdit(`paint/${index}?over=${over}&base=${base}`, blob);

export function toggleKeyframe() {
  return keyframeAt(model.frame) ? notice(`Frame ${model.frame} is a keyframe already; Delete removes it`) : addKeyframe();
}

export function removeKeyframe() {
  if (!keyframeAt(model.frame)) notice(`Frame ${model.frame} is no keyframe`);
  else edit("remove", { index: model.frame });
}

export async function uploadImage(file) {
  if (!file) return;
  try {
    await uploadEdit(`upload/${model.frame}`, file);
    notice(`Image taken for frame ${model.frame}`);
  } catch (error) {
    notice(error.message, true);
  }
}

export function takeOutput() {
  return edit("output_frame", { index: model.frame });
}

// Neighbours in a rising list of frames.
export function jump(list, direction) {
  const sorted = [...new Set(list)].sort((a, b) => a - b);
  const next = direction > 0 ? sorted.find((one) => one > model.frame) : sorted.reverse().find((one) => one < model.frame);
  if (next !== undefined) setFrame(next);
  else notice(direction > 0 ? "There is none further on" : "There is none further back");
}

export const keyframeIndices = () => (model.state ? model.state.keyframes.map((one) => one.index) : []);
export const shotStarts = () => (model.state ? model.state.shots.map(([start]) => start) : []);

// "48", "0:02", "1:02:03.5" or "2.5s".
export function goTo(text) {
  const words = text.trim();
  if (/^\d+$/.test(words)) {
    setFrame(Number(words));
    return true;
  }
  const parts = words.replace(/s$/, "").split(":").map(Number);
  if (parts.length > 3 || parts.some((part) => !Number.isFinite(part) || part < 0)) {
    notice(`"${words}" is neither a frame nor a time; write 48 or 0:02.5`, true);
    return false;
  }
  const wanted = parts.reduce((sum, part) => sum * 60 + part, 0);
  let index = 0;
  while (index + 1 < frames() && seconds(index + 1) <= wanted + 1e-4) index += 1;
  setFrame(index);
  return true;
}

export function setMode(mode) {
  model.mode = mode;
  emit("mode");
}
