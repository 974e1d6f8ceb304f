// Decoded pictures by address: fetched a few at a time, the wanted ones first, kept within a limit.

const LIMIT_BYTES = 320e6;
const AT_ONCE = 3;   // of the six connections of HTTP/1.1; events and commands need the others

const kept = new Map();      // address -> { bitmap, bytes }, the longest unused first
const loading = new Map();   // address -> { promise, controller }
let wanted = [];             // addresses, the most urgent first
let bytes = 0;
let told = () => {};
const failed = new Map();    // address -> when

export function onPicture(listener) {
  told = listener;
}

export function peek(url) {
  const found = kept.get(url);
  if (!found) return null;
  kept.delete(url);
  kept.set(url, found);
  return found.bitmap;
}

// Ask for pictures, the most urgent first; what was asked for before and is not in the list is not fetched any more.
export function want(urls) {
  wanted = urls.filter((url) => url && !kept.has(url));
  for (const [url, { controller, pinned }] of loading) {
    if (!pinned && !wanted.includes(url)) controller.abort();
  }
  pump();
}

// One picture that is needed whatever is shown meanwhile. Begun anew if the list had just given it up.
export async function load(url) {
  const found = peek(url);
  if (found) return found;
  if (loading.has(url)) loading.get(url).pinned = true;
  try {
    return await start(url, true);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return start(url, true);
  }
}

function pump() {
  for (const url of wanted) {
    if (loading.size >= AT_ONCE) return;
    if (kept.has(url) || loading.has(url) || performance.now() - (failed.get(url) ?? -1e9) < 1000) continue;
    start(url).catch(() => {});
  }
}

function start(url, pinned = false) {
  if (loading.has(url)) return loading.get(url).promise;
  const controller = new AbortController();
  const promise = fetchBitmap(url, controller.signal).then((bitmap) => {
    keep(url, bitmap);
    return bitmap;
  }).catch((error) => {
    if (error.name !== "AbortError") failed.set(url, performance.now());
    throw error;
  }).finally(() => {
    loading.delete(url);
    told(url);
    pump();
  });
  loading.set(url, { promise, controller, pinned });
  return promise;
}

async function fetchBitmap(url, signal) {
  const answer = await fetch(url, { signal });
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return createImageBitmap(await answer.blob());
}

function keep(url, bitmap) {
  const size = bitmap.width * bitmap.height * 4;
  kept.set(url, { bitmap, bytes: size });
  bytes += size;
  while (bytes > LIMIT_BYTES && kept.size > 2) {
    const [oldest, entry] = kept.entries().next().value;
    kept.delete(oldest);
    bytes -= entry.bytes;
    entry.bitmap.close();
  }
}
