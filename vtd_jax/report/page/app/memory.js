// What the user has chosen: it is in the fragment of the address, and its edits can be undone.
const memory = (() => {
  const { model, limits } = known;
  const written = (label) => (/[,"]|^\s|\s$/.test(label) ? `"${label}"` : label);
  const first = {
    video: "", name: "", labels: model.labels.map(written).join("\n"), words: "", temperature: null, frames: model.frames || 16,
    mode: "clip", window: 8, threshold: 0.25, label: "", explained: "model",
  };
  const EDITS = ["labels", "words", "temperature", "frames", "window", "threshold"];
  const between = (low, high) => (text) => Math.min(high, Math.max(low, Number(text) || low));
  // anything may stand in a link
  const readers = {
    video: (text) => (/^[0-9a-f]{32}$/.test(text) ? text : ""),
    temperature: between(1e-6, 1e6),
    frames: (text) => Math.round(between(1, limits.frames)(text)),
    mode: (text) => (text === "timeline" ? text : "clip"),
    window: between(0.5, 3600),
    threshold: between(0.01, 1),
    explained: (text) => (text === "beside" && known.beside ? text : "model"),
  };
  function read() {
    const found = { ...first };
    for (const [name, text] of new URLSearchParams(location.hash.slice(1)))
      if (name in first) found[name] = readers[name] ? readers[name](text) : text;
    return found;
  }
  const state = read(), listeners = [];
  const edits = () => JSON.stringify(EDITS.map((name) => state[name]));
  let past = [edits()], at = 0, timer = 0, own = "";

  function write() {
    const changed = Object.keys(first).filter((name) => state[name] !== first[name] && state[name] !== null);
    own = `#${new URLSearchParams(changed.map((name) => [name, state[name]]))}`;
    try {
      history.replaceState(null, "", own);
    } catch {
      // a browser takes addresses of some length only, and not hundreds of them a second
    }
  }
  const sign = () => {
    const open = edits() !== past[at];
    $("undo").disabled = at === 0 && !open;
    $("redo").disabled = at === past.length - 1 || open;
  };
  // what was typed without a pause is one edit
  function settle() {
    clearTimeout(timer);
    if (edits() !== past[at]) {
      past = [...past.slice(0, at + 1), edits()];
      // long vocabularies are kept a few times only
      let size = past.reduce((sum, one) => sum + one.length, 0);
      while (past.length > 2 && (past.length > 500 || size > 2e7)) size -= past.shift().length;
      at = past.length - 1;
    }
    write();
    sign();
  }
  function change(given, settled = true) {
    Object.assign(state, given);
    clearTimeout(timer);
    settled ? settle() : (timer = setTimeout(settle, 600));
    sign();
  }
  function step(by) {
    settle();
    if (!past[at + by]) return;
    at += by;
    const before = { ...state };
    JSON.parse(past[at]).forEach((value, n) => (state[EDITS[n]] = value));
    write();
    sign();
    listeners.forEach((listener) => listener(before, by));
  }
  addEventListener("hashchange", () => location.hash === own || location.reload());
  addEventListener("pagehide", settle);

  // a text field as a list: lines, commas, and "quotes" around what has a comma
  const list = (text) =>
    text.split("\n").flatMap((line) => {
      const one = line.trim();
      return /^".*"$/.test(one) && one.length > 2 ? [one.slice(1, -1)] : one.split(",").map((part) => part.trim());
    }).filter(Boolean);
  return { state, change, settle, undo: () => step(-1), redo: () => step(1), undone: (listener) => listeners.push(listener), list };
})();
