// What the user has chosen: it is in the fragment of the address, and its edits can be undone.
const memory = (() => {
  const { model, limits } = known;
  const written = (label) => (/[,\t]|^"|^\s|\s$/.test(label) ? `"${label.replaceAll('"', '""')}"` : label);
  const first = {
    video: "", name: "", labels: model.labels.map(written).join("\n"), words: "", temperature: null, frames: model.frames || 16,
    mode: "clip", window: 8, threshold: 0.25, label: "", explained: "model", beside: "",
  };
  const EDITS = ["labels", "words", "temperature", "frames", "window", "threshold", "beside"];
  // characters of an address: programs that pass it on cut longer ones off
  const ADDRESS = 20_000;
  // what may be too long for it
  const LONG = ["words", "labels"];
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
    beside: (text) => (["yes", "no"].includes(text) && known.beside ? text : ""),
  };
  // all of it is kept for a reload of this tab as well: a browser reloads an older address than the last one
  const TAB = "vtd app";
  function kept() {
    try {
      const { address, all } = JSON.parse(sessionStorage.getItem(TAB));
      const [{ type }] = performance.getEntriesByType("navigation");
      return type === "reload" || address === location.hash ? all : null;
    } catch {
      return null;
    }
  }
  function keep(all) {
    try {
      all === null ? sessionStorage.removeItem(TAB) : sessionStorage.setItem(TAB, JSON.stringify({ address: own, all }));
    } catch {
      // a page in another site's frame may have no storage
    }
  }
  function read() {
    const found = { ...first };
    for (const [name, text] of new URLSearchParams(kept() ?? location.hash.slice(1)))
      if (name in first) found[name] = readers[name] ? readers[name](text) : text;
    return found;
  }
  const state = read(), listeners = [];
  const edits = () => JSON.stringify(EDITS.map((name) => state[name]));
  let past = [edits()], at = 0, timer = 0, editing = "", own = "", writing = 0, writtenAt = -Infinity, left = false;

  function writeNow() {
    if (left) return;
    clearTimeout(writing);
    writing = 0;
    writtenAt = performance.now();
    const changed = Object.keys(first).filter((name) => state[name] !== first[name] && state[name] !== null);
    const out = [], pairs = () => changed.filter((name) => !out.includes(name)).map((name) => [name, state[name]]);
    const fragment = () => String(new URLSearchParams(pairs()));
    const all = fragment();
    own = `#${all}`;
    for (const name of LONG) {
      if (own.length <= ADDRESS || !changed.includes(name)) continue;
      out.push(name);
      own = `#${fragment()}`;
    }
    keep(all);
    const names = out.map((name) => (name === "words" ? "vocabulary" : "labels"));
    tell($("address-note"), names.length ? `Too long for the address: a link to this page leaves the ${names.join(" and the ")} out.` : "");
    try {
      history.replaceState(null, "", own);
    } catch {
      // a browser keeps some length only
    }
  }
  // browsers take a few hundred addresses in half a minute
  function write() {
    const wait = writtenAt + 250 - performance.now();
    if (wait <= 0) writeNow();
    else writing ||= setTimeout(writeNow, wait);
  }
  const sign = () => {
    const open = edits() !== past[at];
    $("undo").disabled = at === 0 && !open;
    $("redo").disabled = at === past.length - 1 || open;
  };
  // what was typed without a pause is one edit
  function settle() {
    clearTimeout(timer);
    editing = "";
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
    // that of another field or slider is its own
    const edited = EDITS.filter((name) => name in given).join();
    if (editing && edited && edited !== editing) settle();
    Object.assign(state, given);
    editing = edited || editing;
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
  addEventListener("hashchange", () => {
    if (location.hash === own) return;
    left = true;
    keep(null);
    location.reload();
  });
  addEventListener("pagehide", () => {
    settle();
    writeNow();
  });

  // a text field as a list: lines, commas or tabs, and "quotes" around what has them, doubled within
  const list = (text) => text.split(/\r\n?|\n/).flatMap(parts).filter(Boolean);
  const parts = (line) => (line.includes('"') ? quoted(line) : line.split(/[,\t]/).map((part) => part.trim()));
  const bare = (part) => (/^".+"$/.test(part) ? part.slice(1, -1).replaceAll('""', '"') : part);
  function quoted(line) {
    const found = [], pieces = line.split(/([,\t])/);
    for (let n = 0; n < pieces.length; n += 2) {
      let part = pieces[n].trim(), end = n;
      const closed = () => part.endsWith('"') && part.split('"').length % 2;
      if (part.startsWith('"'))
        while (!closed() && end + 2 < pieces.length) part = (part + pieces[end + 1] + pieces[(end += 2)]).trimEnd();
      // a quote that nothing closes is a part of the text
      const whole = end === n || closed();
      found.push(whole ? bare(part) : pieces[n].trim());
      if (whole) n = end;
    }
    return found;
  }
  function link() {
    settle();
    writeNow();
    return new URL(own, location.href).href;
  }
  // twice the time for a line less: beside a timeline only where it is wanted
  const beside = () => Boolean(known.beside) && (state.beside ? state.beside === "yes" : state.mode === "clip");
  return { state, beside, change, settle, link, undo: () => step(-1), redo: () => step(1), undone: (listener) => listeners.push(listener), list };
})();
