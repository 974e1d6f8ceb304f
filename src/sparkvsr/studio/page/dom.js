// Small helpers for elements. Text is always set as text, never as markup.

export const byId = (id) => document.getElementById(id);

// element("button", { class: "strong", onclick: f, "aria-label": "Add" }, "text", child, ...)
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "checked" || key === "disabled" || key === "value" || key === "selected") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const within = (value, low, high) => Math.min(high, Math.max(low, value));

export function timecode(seconds) {
  const whole = Math.floor(seconds + 1e-6);
  const rest = Math.floor((seconds - whole + 1e-6) * 1000);
  const hours = Math.floor(whole / 3600);
  const minutes = String(Math.floor(whole / 60) % 60).padStart(hours ? 2 : 1, "0");
  const text = `${minutes}:${String(whole % 60).padStart(2, "0")}.${String(Math.max(0, rest)).padStart(3, "0")}`;
  return hours ? `${hours}:${text}` : text;
}

export function shortTime(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

export function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
