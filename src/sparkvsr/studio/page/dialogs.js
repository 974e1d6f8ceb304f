// Export and the list of keys.

import { act, notice } from "./actions.js";
import { send } from "./api.js";
import { byId, element } from "./dom.js";
import { model, resultSize } from "./model.js";

const CODECS = [["h264", "H.264"], ["hevc", "HEVC"], ["av1", "AV1"], ["ffv1", "FFV1 (lossless)"], ["prores", "ProRes"]];
const SUFFIX = { h264: ".mp4", hevc: ".mp4", av1: ".mp4", ffv1: ".mkv", prores: ".mov" };

export async function openExport() {
  const dialog = byId("export-dialog");
  const { state } = model;
  const [height] = resultSize();
  const name = element("input", { type: "text", value: state.output, "aria-label": "File name", id: "export-name" });
  const codec = element("select", { "aria-label": "Codec", id: "export-codec" },
    ...CODECS.map(([value, label]) => element("option", { value, selected: value === state.codec }, label)));
  codec.addEventListener("change", () => {
    const fits = name.value.endsWith(".mkv") || (codec.value === state.codec && name.value === state.output);
    if (!fits) name.value = name.value.replace(/\.[a-z0-9]+$/i, "") + SUFFIX[codec.value];
  });
  const crf = element("input", { type: "number", min: "0", max: "63", placeholder: "auto", "aria-label": "Quality (crf)", class: "small" });
  const tall = element("input", { type: "number", min: "16", max: "16384", placeholder: String(height), "aria-label": "Height", class: "small" });
  const overwrite = element("input", { type: "checkbox", id: "export-overwrite" });
  const compare = element("input", { type: "checkbox", id: "export-compare" });
  const command = element("textarea", { readonly: true, rows: "3", "aria-label": "The same as a command" });
  const missing = state.segments.filter(([, , , stored]) => !stored).reduce((sum, [start, stop]) => sum + stop - start, 0);
  const asCommand = async () => {
    try {
      command.value = (await send("command", values())).command;
    } catch (error) {
      command.value = error.message;
    }
    command.style.height = "auto";
    command.style.height = `${command.scrollHeight + 4}px`;
  };
  const values = () => ({
    output: name.value.trim(), codec: codec.value, crf: crf.value === "" ? null : Number(crf.value),
    height: tall.value === "" ? null : Number(tall.value), overwrite: overwrite.checked, compare: compare.checked,
  });
  dialog.replaceChildren(element("form", { method: "dialog" },
    element("h2", {}, "Export"),
    element("label", {}, "Name ", name),
    element("div", { class: "line" }, element("label", {}, "Codec ", codec), element("label", { title: "Lower is better and larger; empty is the default of the codec" }, "Quality (crf) ", crf), element("label", {}, "Height ", tall)),
    element("label", { class: "inline" }, overwrite, "Replace a file of this name"),
    element("label", { class: "inline" }, compare, "Also compare.html, one file with a slider"),
    element("p", { class: "hint" }, missing ? `${missing} of ${state.clip.frames} frames are still to be rendered.` : "Everything is rendered already.",
      " Another codec, quality or size renders everything anew.", state.clip.sound ? " Sound is kept." : ""),
    element("details", { ontoggle: asCommand, id: "export-command" }, element("summary", {}, "As a command"), command,
      element("button", { type: "button", onclick: async () => {
        await navigator.clipboard.writeText(command.value);
        notice("Copied");
      } }, "Copy")),
    element("div", { class: "buttons end" },
      element("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
      element("button", { type: "button", class: "strong", id: "export-go", onclick: async () => {
        if (await act("export", values())) {
          dialog.close();
          notice(`${name.value} is being written`);
        }
      } }, "Write"))));
  for (const input of [name, codec, crf, tall]) input.addEventListener("input", () => byId("export-command").open && asCommand());
  dialog.showModal();
  name.focus();
}

export function openHelp(keys) {
  const dialog = byId("help-dialog");
  dialog.replaceChildren(
    element("h2", {}, "Keys"),
    element("div", { class: "keys" }, ...keys.map(([what, ...names]) => element("div", { class: "line" },
      element("span", { class: "grow" }, what), ...names.map((name) => element("kbd", {}, name))))),
    element("p", { class: "hint" }, "The wheel zooms at the pointer, dragging moves the line of the wipe; with Shift, or in the other views, it moves the picture. In the timeline the wheel zooms."),
    element("div", { class: "buttons end" }, element("button", { class: "strong", onclick: () => dialog.close() }, "Close")));
  dialog.showModal();
}
