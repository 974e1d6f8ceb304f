const within = (value, low, high) => Math.min(high, Math.max(low, value));

/* Show the picture on top up to the line, which is at so many per cent of the width. */
function cutAt(top, line, percent) {
  top.style.clipPath = `inset(0 ${100 - percent}% 0 0)`;
  line.style.left = percent + "%";
}

/* Call set(per cent of the width) when the mouse moves over a stage, or a finger or pen draws across it. */
function followPointer(stage, set) {
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    set(within(100 * (event.clientX - box.left) / box.width, 0, 100));
  };
  stage.addEventListener("pointerdown", (event) => {
    try { stage.setPointerCapture(event.pointerId); } catch { /* the pointer is gone already */ }
    follow(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" || event.buttons) follow(event);
  });
}
