// The panel at the side: the keyframe of this frame, all keyframes, guidance, renders, finished files.

import { act, addKeyframe, edit, notice, takeOutput } from "./actions.js";
import { address } from "./api.js";
import { byId, element, megabytes, shortTime } from "./dom.js";
import { keyframeAt, model, on, setFrame, smallUrl } from "./model.js";
import { startPainting } from "./paint.js";

let drawnHere = "";

function hereSection() {
  const place = byId("here");
  const { frame, state, studio } = model;
  const keyframe = keyframeAt(frame);
  const candidates = state.candidates[frame] || [];
  const making = state.making.filter((one) => one.index === frame);
  // Drawn anew only when something in it is different: the focus stays where it is.
  const facts = JSON.stringify([frame, keyframe, candidates, making, studio.makers, state.folder, studio.ready, keyframe ? state.guidance : 0]);
  if (facts === drawnHere) return;
  if (place.contains(document.activeElement) && document.activeElement.matches("input[type=text], textarea")) {
    if (JSON.parse(drawnHere || "[]")[0] === frame) return;
  }
  drawnHere = facts;
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.name : null;
  place.replaceChildren(
    element("h2", {}, keyframe ? `Keyframe ${frame}` : `Frame ${frame}`),
    ...(keyframe ? keyframeEditor(keyframe, candidates) : newKeyframe(candidates)).filter(Boolean),
    ...making.map((one) => element("p", { class: "busy" }, `${one.label} is at work...`)),
  );
  if (focused) place.querySelector(`[data-name="${focused}"]`)?.focus();
}

function newKeyframe(candidates) {
  const parts = [
    element("p", { class: "hint" }, "No keyframe. Make one here, and it is carried through its shot."),
    makerLine("Add keyframe", addKeyframe),
    element("div", { class: "buttons" },
      button("upload", "Upload image\u2026", "Or paste one (Ctrl+V), or drop it on the picture", () => byId("file").click()),
      button("output", "Take this output", "The result of this frame, to mend it (O)", takeOutput)),
  ];
  if (candidates.length) parts.push(strip(candidates, null));
  return parts;
}

function button(name, text, title, onclick, more = {}) {
  return element("button", { title, onclick, "data-name": name, ...more }, text);
}

// Choice of a maker with the words and the seed it takes.
function makerLine(label, made, beside = null) {
  const makers = model.studio.makers;
  const select = element("select", { "aria-label": "Maker", "data-name": "maker" },
    ...makers.map((one) => element("option", { value: String(one.number) }, one.label)));
  const prompt = element("input", { type: "text", placeholder: "Prompt", "aria-label": "Prompt", "data-name": "prompt" });
  const seed = element("input", { type: "number", min: "0", placeholder: "Seed", "aria-label": "Seed", class: "small", "data-name": "seed" });
  const words = element("div", { class: "line" }, prompt, seed);
  const adapt = () => { words.hidden = !makers[Number(select.value)]?.prompt; };
  select.addEventListener("change", adapt);
  adapt();
  const go = button("make", label, "Enter", () => {
    const more = {};
    if (!words.hidden && prompt.value.trim()) more.prompt = prompt.value.trim();
    if (!words.hidden && seed.value !== "") more.seed = Number(seed.value);
    made(Number(select.value), more);
  }, { class: beside ? null : "strong" });
  return element("div", { class: "maker" }, element("div", { class: "line" }, go, beside),
    makers.length > 1 ? element("div", { class: "line" }, element("span", { class: "label" }, "Maker"), select) : null, words);
}

function keyframeEditor(keyframe, candidates) {
  const { index, weight, enabled, findings, guidance } = keyframe;
  const slider = element("input", {
    type: "range", min: "0", max: "1", step: "0.05", value: String(weight), "aria-label": `Weight of keyframe ${index}`, "data-name": "weight",
    onchange: (event) => edit("weight", { index, weight: Number(event.target.value) }),
    oninput: (event) => { shown.textContent = Number(event.target.value).toFixed(2); },
  });
  const shown = element("output", {}, weight.toFixed(2));
  const file = `${model.state.folder}/refs/${String(index).padStart(5, "0")}.png`;
  return [
    strip(candidates, keyframe.image),
    ...(findings || []).map(({ text, fix }) => element("p", { class: "finding" }, `This image ${text}`,
      fix ? button(`fix-${fix}`, fix === "align" ? "Align" : "Match colours", "Makes a mended image; undo goes back", () => edit("fix", { index, fix })) : null)),
    element("div", { class: "line" }, element("span", { class: "label" }, "Weight"), slider, shown,
      element("label", { class: "inline", title: "Use this keyframe (X)" }, element("input", {
        type: "checkbox", checked: enabled, "data-name": "enabled",
        onchange: (event) => edit("enable", { index, enabled: event.target.checked }),
      }), "used")),
    model.studio.ready?.keyframe_guidance ? guidanceLine(index, guidance) : null,
    element("div", { class: "buttons" },
      button("paint", "Brush\u2026", "Take only a part of this image (B)", () => startPainting(index)),
      button("upload", "Upload\u2026", "Another image; or paste (Ctrl+V), or drop it", () => byId("file").click()),
      button("output", "Take output", "The result of this frame, to mend it (O)", takeOutput)),
    makerLine("Make another", addKeyframe,
      button("remove", "Remove", "Delete", () => edit("remove", { index }))),
    element("p", { class: "hint" }, "What another program saves as ", element("code", {}, file), " appears here."),
  ];
}

// Guidance of one keyframe: that of all, or its own, closer to its picture.
function guidanceLine(index, guidance) {
  const own = guidance !== undefined;
  const value = own ? guidance : Math.min(2, Math.max(1, model.state.guidance));
  const shown = element("output", {}, value.toFixed(2));
  const slider = element("input", {
    type: "range", min: "1", max: "2", step: "0.05", value: String(value), disabled: !own, "data-name": "guidance",
    "aria-label": `Guidance of keyframe ${index}`,
    onchange: (event) => edit("keyframe_guidance", { index, guidance: Number(event.target.value) }),
    oninput: (event) => { shown.textContent = Number(event.target.value).toFixed(2); },
  });
  return element("div", { class: "line" }, element("span", { class: "label" }, "Guidance"), slider, shown,
    element("label", { class: "inline", title: "A guidance of its own instead of that of all keyframes" }, element("input", {
      type: "checkbox", checked: own, "data-name": "own-guidance",
      onchange: (event) => edit("keyframe_guidance", { index, guidance: event.target.checked ? value : null }),
    }), "own"));
}

function strip(candidates, chosen) {
  const { clip } = model.state;
  return element("div", { class: "strip", role: "radiogroup", "aria-label": "Images of this keyframe" },
    ...candidates.map((one, place) => element("button", {
      class: one.image === chosen ? "candidate chosen" : "candidate",
      role: "radio", "aria-checked": String(one.image === chosen), "data-name": `candidate-${one.image}`,
      title: [one.maker, one.prompt, one.seed && `seed ${one.seed}`].filter(Boolean).join(", "),
      "aria-label": `Image ${place + 1}: ${one.maker}`,
      onclick: () => one.image !== chosen && edit("choose", { index: model.frame, image: one.image }),
    }, element("img", { src: smallUrl(one.image), alt: "", width: "88", height: String(Math.round((88 * clip.height) / clip.width)) }),
    element("span", {}, one.maker))));
}

let drawnList = "";

function listSection() {
  const { keyframes } = model.state;
  const facts = JSON.stringify([keyframes.map((one) => [one.index, one.image, one.enabled, one.weight, (one.findings || []).length]), model.frame]);
  if (facts === drawnList) return;
  drawnList = facts;
  const count = keyframes.length;
  byId("all-keyframes").replaceChildren(
    element("h2", {}, count ? `${count} keyframe${count === 1 ? "" : "s"}` : "Keyframes"),
    count ? element("div", { class: "chips" }, ...keyframes.map((one) => element("button", {
      class: `chip${one.index === model.frame ? " chosen" : ""}${one.enabled ? "" : " off"}`,
      "aria-current": one.index === model.frame ? "true" : null,
      title: one.enabled ? `weight ${one.weight}` : "not used",
      onclick: () => setFrame(one.index),
    }, String(one.index), (one.findings || []).length ? element("span", { class: "mark", title: "see what was found" }, " !") : null)))
      : element("p", { class: "hint" }, "None yet. Find a frame that looks wrong and press Enter."),
  );
}

function queueSection() {
  const { queue } = model.state;
  byId("queue").replaceChildren(...queue.map((item) => {
    const running = item.total > 0;
    const speed = item.fps ? `${item.fps.toFixed(1)} fps` : "";
    const left = item.seconds_left !== null && item.seconds_left !== undefined ? `${shortTime(item.seconds_left)} left` : "";
    const words = item.state === "stopping" ? "stopping" : running ? [`${item.done} of ${item.total}`, speed, left].filter(Boolean).join(", ")
      : item.running ? "starting\u2026" : "waiting";
    const name = item.kind === "export" ? `Write ${item.label}` : `Render ${item.label}`;
    return element("div", { class: "job" },
      element("div", { class: "line" }, element("span", { class: "grow" }, name),
        element("button", { "aria-label": `Cancel: ${name}`, title: "Cancel", onclick: () => act("cancel", { id: item.id }) }, "\u2715")),
      element("progress", { max: String(Math.max(1, item.total)), value: item.done, "aria-label": name }),
      element("span", { class: "hint" }, words));
  }));
}

function filesSection() {
  const { exports } = model.state;
  byId("files").replaceChildren(...(exports.length ? [
    element("h2", {}, "Finished files"),
    ...exports.map((one) => element("div", { class: "line" },
      element("a", { class: "grow", href: address(`out/${encodeURIComponent(one.name)}`), download: one.name }, one.name),
      element("span", { class: "hint" }, megabytes(one.bytes)))),
    element("p", { class: "hint" }, `They lie in ${model.state.folder}/out.`),
  ] : []));
}

function guidanceSection() {
  const slider = byId("guidance");
  if (document.activeElement !== slider || !slider.dataset.dragging) slider.value = String(model.state.guidance);
  byId("guidance-now").textContent = Number(slider.value).toFixed(2);
  const { ready } = model.studio;
  byId("look-line").hidden = !ready?.looks?.length;
  byId("look").value = model.state.look ?? ready?.look ?? "";
}

export function drawPanel() {
  if (!model.state) return;
  hereSection();
  listSection();
  guidanceSection();
  queueSection();
  filesSection();
  const { studio, state } = model;
  const stopped = model.connected ? "" : "The server was stopped. Start it again with the same command; this page goes on by itself.";
  const problem = stopped || state.error || (studio.failed ? `Nothing can be rendered: ${studio.failed}` : "");
  byId("engine").textContent = problem || (studio.ready ? "" : "Loading the model\u2026");
  byId("engine").classList.toggle("problem", Boolean(problem));
  if (studio.ready) byId("clip-name").title = `${state.clip.summary}; model ${studio.ready.model} on ${studio.ready.device}`;
  byId("undo").disabled = !state.undo;
  byId("redo").disabled = !state.redo;
  byId("undo").title = state.undo ? `Undo: ${state.undo} (Ctrl+Z)` : "Nothing to undo";
  byId("redo").title = state.redo ? `Redo: ${state.redo} (Ctrl+Shift+Z)` : "Nothing to redo";
}

export function startPanel() {
  const slider = byId("guidance");
  slider.addEventListener("input", () => {
    slider.dataset.dragging = "yes";
    byId("guidance-now").textContent = Number(slider.value).toFixed(2);
  });
  slider.addEventListener("change", () => {
    delete slider.dataset.dragging;
    edit("guidance", { guidance: Number(slider.value) });
  });
  byId("look").addEventListener("change", (event) => edit("look", { look: event.target.value }));
  byId("live").addEventListener("change", (event) => {
    model.live = event.target.checked;
    if (model.live) notice("After each edit, a second from here is rendered");
  });
  on("state frame studio progress", drawPanel);
}
