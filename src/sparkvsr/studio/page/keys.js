// Keys, as they are in editing programs.

import {
  edit, jump, keyframeIndices, notice, removeKeyframe, renderAll, renderHere, renderShot, setMode, shotStarts, takeOutput,
  toggleKeyframe,
} from "./actions.js";
import { openExport, openHelp } from "./dialogs.js";
import { byId } from "./dom.js";
import { model, setFrame } from "./model.js";
import { changeBrush, isPainting, startPainting, stopPainting } from "./paint.js";
import { pause, player, shuttle, toggle } from "./player.js";
import { fit, redraw, refresh, setWipe, view, zoomTo } from "./viewer.js";

export const KEYS = [
  ["Play, pause", "Space", "K"], ["Backwards, forwards; again: faster", "J", "L"],
  ["One frame back, on", "\u2190", "\u2192"], ["The same", ",", "."], ["Ten frames", "Shift+\u2190", "Shift+\u2192"],
  ["Previous, next keyframe", "Alt+\u2190", "Alt+\u2192"], ["Previous, next shot", "Ctrl+\u2190", "Ctrl+\u2192"],
  ["First, last frame", "Home", "End"], ["Middle between two keyframes", "M"], ["Go to frame or time", "G"],
  ["Add a keyframe here", "Enter", "I"], ["Remove it", "Delete"], ["Use it or not", "X"],
  ["Take this output as keyframe", "O"], ["Brush", "B"], ["Suggest the next keyframe", "N"],
  ["Source, result, wipe, difference, onion skin", "1 \u2026 5"], ["Reference", "6"], ["Flip", "Tab"],
  ["Line of the wipe", "\u2191", "\u2193"], ["Fit, one to one", "0", "9"], ["Zoom", "+", "\u2212"],
  ["Render around here", "P"], ["Render this shot, all", "S", "Shift+S"], ["Export", "E"],
  ["Undo, redo", "Ctrl+Z", "Ctrl+Shift+Z"], ["Keys", "?"],
];

const MODES = { 1: "source", 2: "result", 3: "wipe", 4: "difference", 5: "onion", 6: "reference" };

export const step = (count) => {
  pause();
  setFrame(model.frame + count);
};

function middle() {
  const list = keyframeIndices();
  const before = list.filter((one) => one <= model.frame).pop(), after = list.find((one) => one > model.frame);
  if (before === undefined || after === undefined) notice("There is no keyframe on one of the sides");
  else setFrame(Math.round((before + after) / 2));
}

export const suggest = () => edit("suggest");

const plain = {
  " ": toggle, k: pause, j: () => shuttle(-1), l: () => shuttle(1),
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), ",": () => step(-1), ".": () => step(1),
  ArrowUp: () => setWipe(view.wipe + 0.05), ArrowDown: () => setWipe(view.wipe - 0.05),
  Home: () => step(-1e9), End: () => step(1e9), m: middle,
  g: () => { byId("goto").focus(); byId("goto").select(); },
  Enter: toggleKeyframe, i: toggleKeyframe, Delete: removeKeyframe, Backspace: removeKeyframe,
  x: () => edit("enable", { index: model.frame }), o: takeOutput, b: () => startPainting(model.frame), n: suggest,
  0: fit, 9: () => zoomTo(1), "+": () => zoomTo(view.scale * 1.5), "=": () => zoomTo(view.scale * 1.5), "-": () => zoomTo(view.scale / 1.5),
  p: renderHere, s: renderShot, S: renderAll, e: openExport, "?": () => openHelp(KEYS),
  Tab: () => { view.flipped = !view.flipped; refresh(); redraw(); },
  Escape: () => byId("stage").focus(),
};

const withShift = { ArrowLeft: () => step(-10), ArrowRight: () => step(10) };
const withAlt = { ArrowLeft: () => jump(keyframeIndices(), -1), ArrowRight: () => jump(keyframeIndices(), 1) };
const withControl = {
  ArrowLeft: () => jump(shotStarts(), -1), ArrowRight: () => jump(shotStarts(), 1),
  z: () => edit("undo"), y: () => edit("redo"), Z: () => edit("redo"),
};
const painting = { "[": () => changeBrush(0.8), "]": () => changeBrush(1.25), Escape: stopPainting };

export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const target = event.target;
    const isText = target.matches("input[type=text], input[type=number], textarea, select");
    if (isText && !(event.key === "Escape")) return;
    const isControl = target.matches("button, a, input, summary, [role=radio]");
    // Keys that controls have of their own stay theirs; Tab flips only on the picture, elsewhere it moves the focus.
    if (isControl && [" ", "Enter", "Tab"].includes(event.key)) return;
    if (target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
    if (event.key === "Tab" && (target !== byId("stage") || event.shiftKey)) return;
    const table = event.ctrlKey || event.metaKey ? withControl : event.altKey ? withAlt
      : event.shiftKey && event.key in withShift ? withShift : isPainting() && event.key in painting ? painting : plain;
    const name = event.key.length === 1 && !(event.key in table) ? event.key.toLowerCase() : event.key;
    const action = table[name];
    if (!action || !model.state) return;
    if (isPainting() && table === plain && !["+", "-", "=", "0", "9", "?"].includes(name)) return;
    event.preventDefault();
    action();
  });
  for (const [key, mode] of Object.entries(MODES)) plain[key] = () => setMode(mode);
  player.speed = 1;
}

export { MODES };
