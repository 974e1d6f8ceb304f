// Talking to the server: commands, uploads, events.

const base = location.pathname.replace(/[^/]*$/, "");

export const address = (path) => base + path;

// A server that was stopped answers nothing at all.
async function request(path, options) {
  try {
    return await fetch(address(path), options);
  } catch {
    throw new Error("The server does not answer; nothing was changed. Start it again with the same command");
  }
}

async function checked(answer) {
  if (answer.ok) return answer.json();
  let text = `the server answered ${answer.status}`;
  try {
    text = (await answer.json()).error || text;
  } catch {
    if (answer.status === 403) text = "open the address that sparkvsr studio printed in the terminal";
  }
  throw new Error(text);
}

export async function get(path) {
  return checked(await request(path));
}

export async function send(name, values = {}) {
  const body = JSON.stringify(values);
  return checked(await request(`do/${name}`, {
    method: "POST", headers: { "content-type": "application/json" }, body,
  }));
}

export async function upload(path, blob) {
  const type = blob.type.startsWith("image/") ? blob.type : "application/octet-stream";
  return checked(await request(path, { method: "POST", headers: { "content-type": type }, body: blob }));
}

// Calls `heard` with every event; `connection` with whether the server is there.
export function listen(heard, connection) {
  const source = new EventSource(address("events"));
  source.addEventListener("open", () => connection(true));
  source.addEventListener("error", () => {
    connection(false);
    // A refusal is not asked again by the browser: find out why, and try later.
    if (source.readyState === EventSource.CLOSED) {
      get("state").then(() => listen(heard, connection)).catch((error) => {
        connection(false, error.message);
        setTimeout(() => listen(heard, connection), 3000);
      });
    }
  });
  source.addEventListener("message", (message) => heard(JSON.parse(message.data)));
  return source;
}
