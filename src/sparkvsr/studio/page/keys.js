// Keys, as they are in editing programs.

import {
  edit, jump, keyframeIndices, notice, removeKeyframe, renderAll, renderHere, renderShot, setMode, shotStarts, takeOutput,
  toggleKeyframe,
} from "./actions.js";
import { openExport, openHelp } from "./dialogs.js";
import { byId } from "./dom.js";
import { model, setFrame } from "./model.js";
import { changeBrush, dabHere, isPainting, moveBrush, startPainting, stopPainting, switchBrush, undoStroke } from "./paint.js";
import { pause, player, shuttle, toggle } from "./player.js";
import { fit, redraw, refresh, setWipe, toggleZoom, view, zoomTo } from "./viewer.js";

export const KEYS = [
  ["Play, pause", "Space", "K"], ["Backwards, forwards; again: faster", "J", "L"],
  ["One frame back, on", "\u2190", "\u2192"], ["The same", ",", "."], ["Ten frames", "Shift+\u2190", "Shift+\u2192"],
  ["Previous, next keyframe", "Alt+\u2190", "Alt+\u2192"], ["Previous, next shot", "Ctrl+\u2190", "Ctrl+\u2192"],
  ["First, last frame", "Home", "End"], ["Middle between two keyframes", "M"], ["Go to frame or time", "G"],
  ["Add a keyframe here", "Enter", "I"], ["Remove it", "Delete"], ["Use it or not", "X"],
  ["Take this output as keyframe", "O"], ["Brush", "B"], ["Suggest the next keyframe", "N"],
  ["Source, result, wipe, difference, onion skin", "1 \u2026 5"], ["Reference", "6"], ["Flip", "Tab"],
  ["Line of the wipe", "\u2191", "\u2193"], ["Fit, one to one, to and fro", "0", "9", "Z"], ["Zoom", "+", "\u2212"],
  ["Render around here", "P"], ["Render this shot, all", "S", "Shift+S"], ["Export", "E"],
  ["Undo, redo", "Ctrl+Z", "Ctrl+Shift+Z"], ["Next part of the page; back to the picture", "F6", "Esc"], ["Keys", "?"],
  ["In the brush: move, paint, apply", "\u2190\u2191\u2193\u2192", "Space", "Enter"], ["Size, erase, show mask", "[ ]", "X", "V"],
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
  " ": toggle, k: toggle, j: () => shuttle(-1), l: () => shuttle(1),
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), ",": () => step(-1), ".": () => step(1),
  ArrowUp: () => setWipe(view.wipe + 0.05), ArrowDown: () => setWipe(view.wipe - 0.05),
  Home: () => step(-1e9), End: () => step(1e9), m: middle,
  g: () => { byId("goto").focus(); byId("goto").select(); },
  Enter: toggleKeyframe, i: toggleKeyframe, Delete: removeKeyframe, Backspace: removeKeyframe,
  x: () => edit("enable", { index: model.frame }), o: takeOutput, b: () => startPainting(model.frame), n: suggest,
  0: fit, 9: () => zoomTo(1), "+": () => zoomTo(view.scale * 1.5), "=": () => zoomTo(view.scale * 1.5), "-": () => zoomTo(view.scale / 1.5),
  p: renderHere, s: renderShot, S: renderAll, e: openExport, "?": () => openHelp(KEYS),
  Tab: () => { view.flipped = !view.flipped; refresh(); redraw(); },
  Escape: () => byId("stage").focus(), z: () => toggleZoom(), F6: () => nextPart(1),
};

const withShift = { ArrowLeft: () => step(-10), ArrowRight: () => step(10), F6: () => nextPart(-1) };
const withAlt = { ArrowLeft: () => jump(keyframeIndices(), -1), ArrowRight: () => jump(keyframeIndices(), 1) };
const withControl = {
  ArrowLeft: () => jump(shotStarts(), -1), ArrowRight: () => jump(shotStarts(), 1),
  z: () => edit("undo"), y: () => edit("redo"), Z: () => edit("redo"),
};
const painting = {
  "[": () => changeBrush(0.8), "]": () => changeBrush(1.25), Escape: stopPainting, x: () => switchBrush("erase", "paint-erase"),
  v: () => switchBrush("tinted", "paint-tint"), " ": dabHere, Enter: () => byId("paint-apply").click(),
  ArrowLeft: () => moveBrush(-0.02, 0), ArrowRight: () => moveBrush(0.02, 0), ArrowUp: () => moveBrush(0, -0.02), ArrowDown: () => moveBrush(0, 0.02),
};

const WHILE_PAINTING = ["+", "-", "=", "0", "9", "z", "?", "F6"];

// From one part of the page to the next, as in other programs with several panes.
const PARTS = ["#stage", "#panel", "#render button", "#transport", "#timeline", "header"];

function nextPart(direction) {
  const parts = PARTS.map((name) => document.querySelector(name)).filter((part) => part && part.offsetParent !== null);
  const here = parts.findIndex((part) => part.contains(document.activeElement));
  const part = parts[(here + direction + parts.length) % parts.length];
  const inside = part.tabIndex === 0 ? part : part.querySelector("button:not(:disabled), select, input, [tabindex='0']");
  (inside || part).focus();
}

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
    const action = isPainting() && table === withControl ? (name === "z" ? undoStroke : null) : table[name];
    if (!action || !model.state) return;
    if (isPainting() && table === plain && !WHILE_PAINTING.includes(name)) return;
    event.preventDefault();
    action();
  });
  for (const [key, mode] of Object.entries(MODES)) plain[key] = () => setMode(mode);
  player.speed = 1;
}

export { MODES };
