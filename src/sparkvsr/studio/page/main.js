// Puts the page together.

import {
  act, goTo, jump, keyframeIndices, notice, renderAll, renderHere, renderShot, setMode, shotStarts, uploadImage, edit,
} from "./actions.js";
import { get, listen } from "./api.js";
import { openExport, openHelp } from "./dialogs.js";
import { byId, element, timecode } from "./dom.js";
import { KEYS, startKeys, step, suggest } from "./keys.js";
import { emit, model, on, seconds, setFrame, shotAt } from "./model.js";
import { startBrush } from "./paint.js";
import { drawPanel, startPanel } from "./panel.js";
import { pause, toggle } from "./player.js";
import { startTimeline } from "./timeline.js";
import { fit, startViewer, view, zoomTo } from "./viewer.js";

const MODE_NAMES = [
  ["source", "Source", "1"], ["result", "Result", "2"], ["wipe", "Wipe", "3"], ["difference", "Difference", "4"],
  ["onion", "Onion skin", "5"], ["reference", "Reference", "6"],
];

function drawModes() {
  byId("modes").replaceChildren(...MODE_NAMES.map(([name, label, key]) => element("button", {
    role: "radio", "aria-checked": String(model.mode === name), title: `${label} (${key})`, "data-mode": name,
    class: model.mode === name ? "chosen" : null, onclick: () => setMode(name),
  }, label)));
}

function drawPlace() {
  if (!model.state) return;
  const [start, stop] = shotAt(model.frame);
  const { clip, shots } = model.state;
  const shot = shots.length > 1 ? `, shot ${shots.findIndex(([first]) => first === start) + 1} of ${shots.length}` : "";
  byId("where").textContent = `of ${clip.frames}, ${timecode(seconds(model.frame))}${shot}`;
  byId("where").title = `Frames are counted from 0${shots.length > 1 ? `; this shot has frames ${start} to ${stop - 1}` : ""}`;
  if (document.activeElement !== byId("goto")) byId("goto").value = String(model.frame);
}

function takeState(state) {
  const first = model.state === null;
  const before = model.state && model.state.size;
  model.state = state;
  if (first || (state.size && JSON.stringify(before) !== JSON.stringify(state.size) && view.fitted)) fit();
  if (first) {
    byId("cover").hidden = true;
    byId("clip-name").textContent = state.clip.name;
    byId("clip-name").title = state.clip.summary;
    document.title = `${state.clip.name} - SparkVSR studio`;
    get("times").then((times) => {
      model.times = times;
      drawPlace();
    }).catch(() => {});
  }
  // A page that is loaded again shows the same frame.
  if (first && /^#\d+$/.test(location.hash)) setFrame(Number(location.hash.slice(1)));
  askReach();
  emit("state");
  drawPlace();
  document.body.dataset.ready = "true";
}

let askingReach = 0;
function askReach() {
  clearTimeout(askingReach);
  askingReach = setTimeout(() => {
    get("reach").then((reach) => {
      model.reach = reach;
      emit("reach");
    }).catch(() => {});
  }, 400);
}

function heard(event) {
  if (event.event === "state") takeState(event.state);
  else if (event.event === "studio") {
    model.studio = event;
    byId("to-list").hidden = event.clips < 2;
    emit("studio");
  } else if (event.event === "ready") {
    model.studio = { ...model.studio, ready: event };
    model.previewing = null;
    emit("studio");
  } else if (event.event === "frame" && model.state) {
    model.state.previews[event.index] = event.key;
    if (event.share !== null) model.reach[event.index] = event.share;
    emit("preview");
  } else if (event.event === "previewing" || event.event === "previewed") {
    model.previewing = event.event === "previewing" ? event : null;
    emit("preview");
  } else if (event.event === "analysis" && model.state) {
    model.state.analysis = event;
    emit("state");
  } else if (event.event === "progress" && model.state) {
    for (const item of model.state.queue) if (item.id === event.id) Object.assign(item, event, { event: undefined });
    emit("progress");
  } else if (event.event === "problem") notice(event.text, true);
  else if (event.event === "note") notice(event.text);
  else if (event.event === "suggestion") {
    setFrame(event.index);
    notice(`Frame ${event.index}: ${event.why}. Enter adds a keyframe.`);
  } else if (event.event === "exported") {
    const how = event.rendered ? `, ${event.rendered} of ${event.frames} frames were rendered for it` : "";
    notice(`${event.name} is finished and lies in ${model.state.folder}/out${how}`);
    byId("files").scrollIntoView({ block: "nearest" });
  } else if (event.event === "rendered") notice(event.frames ? `Rendered ${event.label}: ${event.frames} frame${event.frames === 1 ? "" : "s"}` : `Nothing to render: ${event.label} is there already`);
  document.body.dataset.heard = event.event;
}

function connection(isThere, why = null) {
  if (!model.state && !isThere) {
    // The clip was never there: what is wrong with it is all there is to see.
    byId("cover").textContent = why ? `${why.charAt(0).toUpperCase()}${why.slice(1)}.` : "Opening the clip\u2026";
    byId("cover").classList.toggle("problem", Boolean(why));
    byId("to-list").hidden = false;
    return;
  }
  if (isThere === model.connected) return;
  model.connected = isThere;
  document.body.classList.toggle("offline", !isThere);
  emit("studio");
  notice(isThere ? "Connected again" : "The server was stopped. Start it again with the same command; this page goes on by itself.", !isThere);
}

function buttons() {
  const doing = {
    "previous-shot": () => jump(shotStarts(), -1), "next-shot": () => jump(shotStarts(), 1),
    "previous-keyframe": () => jump(keyframeIndices(), -1), "next-keyframe": () => jump(keyframeIndices(), 1),
    back: () => step(-1), on: () => step(1), play: toggle,
  };
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", doing[button.dataset.do]);
  byId("pair").addEventListener("change", (event) => {
    model.pair = event.target.value.split(",");
    emit("mode");
  });
  const clicks = {
    "zoom-fit": fit, "zoom-one": () => zoomTo(1), undo: () => edit("undo"), redo: () => edit("redo"), export: openExport,
    help: () => openHelp(KEYS), "render-here": renderHere, "render-shot": renderShot, "render-all": renderAll, suggest,
  };
  for (const [id, action] of Object.entries(clicks)) byId(id).addEventListener("click", () => (model.state || id === "help") && action());
  const goto = byId("goto");
  goto.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.stopPropagation();
    pause();
    if (goTo(goto.value)) byId("stage").focus();
  });
  goto.addEventListener("blur", drawPlace);
}

function images() {
  const file = byId("file");
  file.addEventListener("change", () => {
    uploadImage(file.files[0]);
    file.value = "";
  });
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files || [])].find((one) => one.type.startsWith("image/"));
    if (pasted) uploadImage(pasted);
  });
  const stage = byId("stage");
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener("drop", (event) => {
    event.preventDefault();
    uploadImage(event.dataTransfer.files[0]);
  });
}

let remembering = 0;
on("frame", () => {
  clearTimeout(remembering);
  remembering = setTimeout(() => history.replaceState(null, "", `#${model.frame}`), 300);
});
on("mode", drawModes);
on("frame", drawPlace);
drawModes();
startViewer();
startTimeline();
startPanel();
startBrush();
startKeys();
buttons();
images();
byId("stage").focus();
drawPanel();
listen(heard, connection);
window.studio = { model, view };
