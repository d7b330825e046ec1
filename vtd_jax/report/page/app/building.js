// What is known from the start, and elements that are repeated: their first one is in the page.
const known = JSON.parse($("data").textContent);
const prototypes = new WeakMap();

// makes `count` of the children of an element that a selector names, and returns them
const fit = (parent, selector, count) => {
  const kept = every(`:scope > ${selector}`, parent);
  if (!prototypes.has(parent)) prototypes.set(parent, {});
  const first = (prototypes.get(parent)[selector] ??= kept[0].cloneNode(true));
  while (kept.length > count) kept.pop().remove();
  while (kept.length < count) {
    const copy = first.cloneNode(true);
    kept.length ? kept.at(-1).after(copy) : parent.append(copy);
    kept.push(copy);
  }
  return kept;
};
const fill = (row, text, value, number) => {
  row.querySelector("bdi").textContent = text;
  share(row.querySelector(".bar i"), value);
  row.querySelector(".number").textContent = number;
};
const setText = (e, text) => e.textContent === text || (e.textContent = text);
const setSource = (image, source) => image.src === source || (image.src = source);

const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const counted = (n, noun) => `${grouped(n)} ${noun}${n === 1 ? "" : "s"}`;
const clock = (seconds, tenths = false, hours = false) => {
  if (!Number.isFinite(seconds)) return "?";
  if (tenths && Number(seconds.toFixed(1)) < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds), two = (n) => String(n).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return hours || minutes >= 60 ? `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
};
// the server rounds: of several labels none has all, and none has nothing
const possible = (x, count) => (count > 1 ? Math.min(1 - 1e-7, Math.max(1e-7, x)) : x);
const chance = (x, count) => percent(possible(x, count));
const bytes = (n) => (n < 1e6 ? `${Math.max(1, Math.round(n / 1e3))} kB` : `${(n / 1e6).toFixed(n < 1e7 ? 1 : 0)} MB`);
const tell = (e, text) => {
  e.hidden = !text;
  setText(e, text);
};

// the sections of a mode go into their places
const mount = (mode) => {
  const parts = $(`${mode}-view`).content.cloneNode(true).children;
  const controls = $("controls");
  for (const part of [...parts]) $(`place-${part.dataset.place}`).replaceChildren(...part.childNodes);
  $("place-controls").replaceWith(controls);
  controls.hidden = false;
  const [one, many] = mode === "clip" ? ["frame", "Player"] : ["segment", "Segments"];
  $("previous").ariaLabel = `Previous ${one}`;
  $("next").ariaLabel = `Next ${one}`;
  $("previous").parentNode.ariaLabel = many;
  $("play").hidden = mode !== "clip" || !$("film").hidden;
  every("[data-mode]", controls).forEach((e) => (e.hidden = e.dataset.mode !== mode));
};

const unmount = () => {
  $("controls").hidden = true;
  $("work").after($("controls"));
  ["scores", "below"].forEach((place) => $(`place-${place}`).replaceChildren());
};

// runs of the same value: value, place, length
const runsOf = (values) =>
  values.reduce((found, value, at) => {
    found.at(-1)?.value === value ? found.at(-1).length++ : found.push({ value, at, length: 1 });
    return found;
  }, []);
