// The brush: take only a part of an image, with a soft edge, and leave the rest as it was.

import { notice } from "./actions.js";
import { upload } from "./api.js";
import { byId, element, within } from "./dom.js";
import { imageUrl, keyframeAt, model, on, resultOf, setFrame, sourceUrl } from "./model.js";
import { load } from "./pictures.js";
import { placeOf, redraw, setOverlay } from "./viewer.js";

const MASK_WIDTH = 1280;
let session = null;

export const isPainting = () => session !== null;

export async function startPainting(index) {
  const keyframe = keyframeAt(index);
  if (!keyframe) {
    notice(`Frame ${index} is no keyframe; add it first`, true);
    return;
  }
  const candidates = model.state.candidates[index] || [];
  // What was painted is painted on: from the image that it came from.
  const over = keyframe.mask ? keyframe.mask.over : keyframe.image;
  const result = resultOf(index, "png");
  const bases = [];
  if (result.state === "done" || result.state === "previewed") bases.push(["output", "this result"]);
  bases.push(...candidates.filter((one) => one.image !== over && one.maker !== "painted").map((one) => [one.image, one.maker]));
  bases.push(["source", "the source, enlarged"]);
  const { clip } = model.state;
  const mask = document.createElement("canvas");
  mask.width = MASK_WIDTH;
  mask.height = Math.round((MASK_WIDTH * clip.height) / clip.width);
  session = { index, over, base: keyframe.mask?.base ?? bases[0][0], mask, size: 0.12, soft: 0.5, erase: false, last: null, steps: [] };
  if (!bases.some(([name]) => name === session.base)) session.base = bases[0][0];
  session.layer = document.createElement("canvas");
  try {
    session.top = await load(imageUrl(over));
    await loadBase();
    if (keyframe.mask) await loadMask(keyframe.mask.mask);
  } catch {
    notice("The images could not be loaded; try again", true);
    session = null;
    return;
  }
  session.layer.width = session.top.width;
  session.layer.height = session.top.height;
  drawBar(bases);
  setOverlay(draw);
  byId("stage").classList.add("painting");
  byId("paint-apply").focus();
}

async function loadBase() {
  const { base, index } = session;
  const url = base === "output" ? resultOf(index, "png").url : base === "source" ? sourceUrl(index, "png") : imageUrl(base);
  session.bottom = await load(url);
}

async function loadMask(name) {
  const bitmap = await load(imageUrl(name).replace("/image/", "/mask/"));
  const { mask } = session;
  const context = mask.getContext("2d");
  context.drawImage(bitmap, 0, 0, mask.width, mask.height);
  const pixels = context.getImageData(0, 0, mask.width, mask.height);
  for (let place = 0; place < pixels.data.length; place += 4) {
    pixels.data[place + 3] = pixels.data[place];
    pixels.data[place] = pixels.data[place + 1] = pixels.data[place + 2] = 255;
  }
  context.putImageData(pixels, 0, 0);
}

function drawBar(bases) {
  const bar = byId("paint-bar");
  const range = (label, name, low, high) => element("label", {}, label, element("input", {
    type: "range", min: String(low), max: String(high), step: "0.01", value: String(session[name]),
    oninput: (event) => { session[name] = Number(event.target.value); redraw(); },
  }));
  bar.replaceChildren(
    element("span", {}, `Paint what is taken from the new image of ${session.index}; the rest is`),
    element("select", { "aria-label": "The rest comes from", onchange: async (event) => {
      session.base = event.target.value;
      await loadBase();
      redraw();
    } }, ...bases.map(([name, label]) => element("option", { value: name, selected: name === session.base }, label))),
    range("Size", "size", 0.01, 0.5),
    range("Softness", "soft", 0, 1),
    element("label", {}, element("input", { type: "checkbox", onchange: (event) => { session.erase = event.target.checked; } }), "Erase"),
    element("button", { onclick: clear }, "Clear"),
    element("button", { id: "paint-apply", class: "strong", onclick: apply }, "Apply"),
    element("button", { onclick: stopPainting }, "Cancel"),
  );
  bar.hidden = false;
}

function clear() {
  session.mask.getContext("2d").clearRect(0, 0, session.mask.width, session.mask.height);
  redraw();
}

function draw(context, paintLayer) {
  const { top, bottom, layer, mask } = session;
  paintLayer(bottom);
  const inner = layer.getContext("2d");
  inner.globalCompositeOperation = "copy";
  inner.drawImage(top, 0, 0);
  inner.globalCompositeOperation = "destination-in";
  inner.drawImage(mask, 0, 0, layer.width, layer.height);
  paintLayer(layer);
  if (session.pointer) {
    const { x, y, radius } = session.pointer;
    context.strokeStyle = "#fff";
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

// One dab of the brush: full inside, fading out over the soft part.
function dab(x, y) {
  const { mask, size, soft, erase } = session;
  const radius = (size * mask.width) / 2;
  const context = mask.getContext("2d");
  const shade = context.createRadialGradient(x, y, radius * (1 - soft) * 0.999, x, y, radius);
  shade.addColorStop(0, "rgba(255,255,255,1)");
  shade.addColorStop(1, "rgba(255,255,255,0)");
  context.globalCompositeOperation = erase ? "destination-out" : "source-over";
  context.fillStyle = shade;
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
  context.globalCompositeOperation = "source-over";
}

function stroke(event) {
  const place = placeOf(event);
  const { mask, size } = session;
  const x = place.x * mask.width, y = place.y * mask.height;
  const from = session.last || { x, y };
  const distance = Math.hypot(x - from.x, y - from.y);
  const count = Math.max(1, Math.ceil(distance / Math.max(1, (size * mask.width) / 8)));
  for (let step = 1; step <= count; step += 1) {
    dab(from.x + ((x - from.x) * step) / count, from.y + ((y - from.y) * step) / count);
  }
  session.last = { x, y };
}

async function apply() {
  const { mask, index, over, base } = session;
  const flat = document.createElement("canvas");
  flat.width = mask.width;
  flat.height = mask.height;
  const context = flat.getContext("2d", { alpha: false });
  context.fillStyle = "#000";
  context.fillRect(0, 0, flat.width, flat.height);
  context.drawImage(mask, 0, 0);
  const blob = await new Promise((resolve) => flat.toBlob(resolve, "image/png"));
  try {
    await upload(`paint/${index}?over=${over}&base=${base}`, blob);
    stopPainting();
  } catch (error) {
    notice(error.message, true);
  }
}

export function stopPainting() {
  session = null;
  byId("paint-bar").hidden = true;
  byId("stage").classList.remove("painting");
  setOverlay(null);
  byId("stage").focus();
}

export function changeBrush(factor) {
  session.size = within(session.size * factor, 0.01, 0.5);
  redraw();
}

export function startBrush() {
  const canvas = byId("picture");
  let down = false;
  canvas.addEventListener("pointerdown", (event) => {
    if (!session) return;
    canvas.setPointerCapture(event.pointerId);
    down = true;
    session.last = null;
    stroke(event);
    redraw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!session) return;
    const box = canvas.getBoundingClientRect();
    const ratio = canvas.width / box.width;
    const wide = placeOf({ clientX: box.left + 1, clientY: 0 }).x - placeOf({ clientX: box.left, clientY: 0 }).x;
    session.pointer = {
      x: (event.clientX - box.left) * ratio, y: (event.clientY - box.top) * ratio, radius: ((session.size / 2) / wide) * ratio,
    };
    if (down) stroke(event);
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { down = false; });
  on("frame", () => {
    if (session && model.frame !== session.index) setFrame(session.index);
  });
}
