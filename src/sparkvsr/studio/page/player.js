// Playback: the picture whose time has come, as soon as it is there; slower rather than with gaps.

import { byId } from "./dom.js";
import { frames, model, seconds, setFrame } from "./model.js";
import { isReady, refresh, view } from "./viewer.js";

const SPEEDS = [0.25, 0.5, 1, 2, 4];
let last = 0;
let due = 0;

export const player = { speed: 1 };

export function play(direction = 1) {
  if (view.playing === direction) return;
  view.playing = direction;
  view.direction = direction;
  if (direction > 0 && model.frame >= frames() - 1) setFrame(0);
  last = performance.now();
  due = 0;
  label();
  refresh();
  requestAnimationFrame(tick);
}

export function pause() {
  if (!view.playing) return;
  view.playing = 0;
  label();
  refresh();
}

export const toggle = () => (view.playing ? pause() : play(1));

// J slower or backwards, L faster or forwards, as in editing programs.
export function shuttle(direction) {
  if (view.playing !== direction) {
    player.speed = 1;
    play(direction);
  } else {
    player.speed = SPEEDS[Math.min(SPEEDS.length - 1, SPEEDS.indexOf(player.speed) + 1)];
    label();
  }
}

function label() {
  const button = byId("play");
  button.querySelector("path").setAttribute("d", view.playing ? "M3 3h3.5v10H3zM9.5 3H13v10H9.5z" : "M4 2.5v11L13.5 8z");
  button.setAttribute("aria-label", view.playing ? "Pause" : "Play");
  button.title = view.playing ? `Pause (Space), speed ${player.speed}` : "Play (Space)";
}

function tick(now) {
  if (!view.playing) return;
  due += ((now - last) / 1000) * player.speed;
  last = now;
  const next = model.frame + view.playing;
  if (next < 0 || next >= frames()) {
    pause();
    return;
  }
  const length = Math.abs(seconds(next) - seconds(model.frame)) || 1 / 24;
  if (due >= length) {
    if (isReady(next)) {
      due = Math.min(due - length, length);
      setFrame(next);
    } else {
      due = length;
      refresh();
    }
  }
  requestAnimationFrame(tick);
}
