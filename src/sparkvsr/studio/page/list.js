// The list of clips.
import { element } from "./dom.js";

const answer = await fetch("/api/clips");
const { clips } = await answer.json();
const list = document.getElementById("clips");
for (const clip of clips) {
  const count = clip.keyframes;
  const state = clip.project ? `${count} keyframe${count === 1 ? "" : "s"}` : "new";
  list.append(element("li", {}, element("a", { href: `/c/${clip.number}/` }, clip.name), element("span", {}, state)));
}
