// Fields, sliders, undo and keys.
const controls = (() => {
  const { state } = memory, { model, limits } = known;
  const labels = $("label-text"), words = $("word-text"), details = $("word-box");
  const frames = $("frames"), temperature = $("temperature"), span = $("window"), threshold = $("threshold"), beside = $("beside");

  function showTexts() {
    if (labels.value !== state.labels) labels.value = state.labels;
    if (words.value !== state.words) words.value = state.words;
    if (state.words) details.open = true;
    showCounts();
  }
  function showCounts() {
    const [some, others] = [memory.list(state.labels).length, memory.list(state.words).length];
    tell($("label-count"), some ? counted(some, "label") : "type one or more");
    tell($("word-count"), others ? counted(others, "word") : "");
  }
  const sensible = (x) => (x >= 100 ? String(Math.round(x)) : String(Number(x.toPrecision(2))));
  const spacing = (count) => (encoding.done()?.duration ?? 0) / count;

  function showFrames(count) {
    const long = state.mode === "timeline";
    slot("frames_name", long ? "Frames a window" : "Frames");
    setText($("frames-value"), String(count));
    const gap = long ? state.window / count : spacing(count);
    setText($("frames-note"), gap ? `one every ${gap < 10 ? gap.toFixed(2) : gap.toFixed(0)} s` : "");
    frames.ariaValueText = counted(count, "frame");
  }
  function showTemperature(value) {
    setText($("temperature-value"), sensible(value));
    temperature.ariaValueText = sensible(value);
  }
  const seconds = (step) => 2 ** Number(step) / 2;
  function showWindow(value) {
    setText($("window-value"), `${sensible(value)} s`);
    span.ariaValueText = `${sensible(value)} seconds`;
    setText($("window-note"), `one every ${sensible(value / 2)} s`);
  }
  function show() {
    showTexts();
    frames.value = state.frames;
    const now = state.temperature ?? model.temperature;
    temperature.value = Math.log10(now / model.temperature);
    span.value = Math.log2(2 * state.window);
    threshold.value = state.threshold;
    showFrames(state.frames);
    showTemperature(now);
    showWindow(state.window);
    setText($("threshold-value"), String(state.threshold));
    every("[name=mode]").forEach((input) => (input.checked = input.value === state.mode));
    if (beside) beside.checked = memory.beside();
    slot("row", state.mode === "timeline" ? "window" : "frame");
    slot("row2", state.mode === "timeline" ? "segment" : "label");
  }

  // where the frames would be taken, before they are
  function previewFrames(count) {
    const { total, duration, long } = encoding.done() ?? {};
    if (!total || long) return;
    const places = Array.from({ length: count }, (_, i) => Math.floor(((2 * i + 1) * total) / (2 * count)) % total);
    player.rail(places.map((place) => (place * duration) / total));
  }

  const typed = (name, field) => () => {
    memory.change({ [name]: field.value }, false);
    showCounts();
    answers.want({ wait: 30 });
  };
  labels.addEventListener("input", typed("labels", labels));
  words.addEventListener("input", typed("words", words));
  [labels, words].forEach((field) => field.addEventListener("change", memory.settle));
  frames.addEventListener("input", () => {
    showFrames(Number(frames.value));
    previewFrames(Number(frames.value));
  });
  frames.addEventListener("change", () => {
    memory.change({ frames: Number(frames.value) });
    encoding.need();
  });
  temperature.addEventListener("input", () => {
    const at = Number(temperature.value), value = Number((model.temperature * 10 ** at).toPrecision(3));
    memory.change({ temperature: Math.abs(at) < 0.01 ? null : value }, false);
    showTemperature(value);
    answers.want({ edit: false });
  });
  temperature.addEventListener("change", memory.settle);
  span.addEventListener("input", () => showWindow(seconds(span.value)));
  span.addEventListener("change", () => {
    memory.change({ window: seconds(span.value) });
    encoding.need();
  });
  threshold.addEventListener("input", () => {
    memory.change({ threshold: Number(threshold.value) }, false);
    setText($("threshold-value"), threshold.value);
    answers.want({ edit: false });
  });
  threshold.addEventListener("change", memory.settle);
  beside?.addEventListener("change", () => {
    memory.change({ beside: beside.checked ? "yes" : "no" });
    encoding.need();
  });
  function turnTo(mode) {
    memory.change({ mode });
    show();
    encoding.need();
  }
  $("modes").addEventListener("change", (event) => turnTo(event.target.value));
  $("as-timeline").addEventListener("click", () => {
    turnTo("timeline");
    $("modes").querySelector(":checked").focus();
  });

  memory.undone((before, by) => {
    const field = before.labels !== state.labels ? labels : before.words !== state.words ? words : null;
    show();
    if (field) toChange(field, before[field === labels ? "labels" : "words"]);
    encoding.need();
    $("said").textContent = by < 0 ? "undone" : "redone";
  });
  // the caret goes where the text has changed
  function toChange(field, before) {
    let end = field.value.length, old = before.length;
    while (end > 0 && old > 0 && field.value[end - 1] === before[old - 1]) end--, old--;
    if (document.activeElement === field) field.setSelectionRange(end, end);
  }
  $("undo").addEventListener("click", memory.undo);
  $("redo").addEventListener("click", memory.redo);
  // one history for fields and sliders: that of the field itself ends where a script has set its text
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.target.closest("dialog, [type=search]")) return;
    const key = event.key.toLowerCase(), redo = key === "y" || (key === "z" && event.shiftKey);
    if (key !== "z" && key !== "y") return;
    event.preventDefault();
    redo ? memory.redo() : memory.undo();
  });
  // in a clip the strip does so
  addEventListener("keydown", (event) => {
    if (event.key !== " " || state.mode !== "timeline" || !plain(event)) return;
    if (event.target.closest("a, button, input, textarea, summary, video, dialog") || !player.toggle()) return;
    event.preventDefault();
  });
  [labels, words].forEach((field) =>
    field.addEventListener("beforeinput", (event) => {
      if (!event.inputType.startsWith("history")) return;
      event.preventDefault();
      event.inputType === "historyRedo" ? memory.redo() : memory.undo();
    }));
  labels.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    (state.mode === "timeline" ? timelineAnswer : clipAnswer).focus();
  });
  $("keys").addEventListener("click", () => $("keys-box").showModal());
  return { show };
})();
