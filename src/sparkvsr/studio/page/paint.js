// The brush: take only a part of an image, with a soft edge, and leave the rest as it was.

import { notice, uploadMask } from "./actions.js";
import { byId, element, within } from "./dom.js";
import { imageUrl, keyframeAt, model, on, resultOf, setFrame, sourceUrl } from "./model.js";
import { load } from "./pictures.js";
import { placeOf, pointOf, redraw, setOverlay } from "./viewer.js";

const MASK_WIDTH = 1280;
const MAX_STEPS = 20;
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
  session = { index, over, base: keyframe.mask?.base ?? bases[0][0], mask, size: 0.12, soft: 0.5, erase: false, tinted: false, last: null, steps: [] };
  session.place = { x: 0.5, y: 0.5 };   // of the brush, 0 to 1, for the keyboard
  if (!bases.some(([name]) => name === session.base)) session.base = bases[0][0];
  // Over the result itself the result would show nothing: what it was made from does.
  const isOutput = candidates.some((one) => one.image === over && one.maker === "output");
  if (isOutput && !keyframe.mask && session.base === "output") session.base = bases[1][0];
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
  byId("stage").focus();   // so that keys paint; Tab goes to the bar
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
    element("label", { title: "Paint the other way (X)" }, element("input", { type: "checkbox", id: "paint-erase", onchange: (event) => { session.erase = event.target.checked; } }), "Erase"),
    element("label", { title: "Colour what is painted (V)" }, element("input", { type: "checkbox", id: "paint-tint", onchange: (event) => {
      session.tinted = event.target.checked;
      redraw();
    } }), "Show mask"),
    element("button", { onclick: undoStroke, title: "Take the last stroke back (Ctrl+Z)" }, "Undo stroke"),
    element("button", { onclick: clear }, "Clear"),
    element("button", { id: "paint-apply", class: "strong", onclick: apply }, "Apply"),
    element("button", { onclick: stopPainting }, "Cancel"),
  );
  bar.hidden = false;
}

// Before each stroke the mask is kept, so that the stroke can be taken back.
function remember() {
  const { mask, steps } = session;
  steps.push(mask.getContext("2d").getImageData(0, 0, mask.width, mask.height));
  if (steps.length > MAX_STEPS) steps.shift();
}

export function undoStroke() {
  const before = session.steps.pop();
  if (!before) notice("There is no stroke to take back");
  else session.mask.getContext("2d").putImageData(before, 0, 0);
  redraw();
}

export function switchBrush(name, id) {
  session[name] = !session[name];
  byId(id).checked = session[name];
  redraw();
}

// The brush moved by the keyboard, in parts of the picture.
export function moveBrush(x, y) {
  const { place } = session;
  session.place = { x: within(place.x + x, 0, 1), y: within(place.y + y, 0, 1) };
  session.byKeys = true;
  redraw();
}

export function dabHere() {
  const { place, mask } = session;
  remember();
  dab(place.x * mask.width, place.y * mask.height);
  redraw();
}

function clear() {
  remember();
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
  if (session.tinted) {
    inner.globalCompositeOperation = "source-in";
    inner.fillStyle = "#e0218a";
    inner.fillRect(0, 0, layer.width, layer.height);
    paintLayer(layer, 0.5);
  }
  const at = session.byKeys ? pointOf(session.place) : session.pointer;
  if (at) {
    const { x, y } = at;
    const radius = (session.size / 2) * (pointOf({ x: 1, y: 0 }).x - pointOf({ x: 0, y: 0 }).x);
    context.strokeStyle = "#000";
    context.lineWidth = 3.5;
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.stroke();
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
    await uploadMask(index, over, base, blob);
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
    remember();
    session.last = null;
    stroke(event);
    redraw();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!session) return;
    session.byKeys = false;
    session.place = placeOf(event);
    session.pointer = pointOf(session.place);
    if (down) stroke(event);
    redraw();
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { down = false; });
  on("frame", () => {
    if (session && model.frame !== session.index) setFrame(session.index);
  });
}
