// What the scripts of several pages need.
const $ = (id) => document.getElementById(id);
const every = (selector, within = document) => [...within.querySelectorAll(selector)];
const slot = (name, value) => every(`[data-slot="${name}"]`).forEach((e) => (e.textContent = value));
const share = (bar, value) => (bar.style.width = `${100 * Math.min(1, Math.max(0, value))}%`);
const signed = (x) => (Number(x.toFixed(2)) < 0 ? "−" : "+") + Math.abs(x).toFixed(2);
const fixed = (x) => x.toFixed(3).replace("-", "−");
const percent = (x) => (x > 0 && x < 0.001 ? "< 0.1 %" : x < 1 && x > 0.999 ? "> 99.9 %" : `${(100 * x).toFixed(1)} %`);
const mark = (list, one) =>
  list.forEach((e) => (e === one ? e.setAttribute("aria-current", "true") : e.removeAttribute("aria-current")));
// one of a group is in the way of the Tab key, arrows move on from there
const reach = (list, one) => one && list.forEach((e) => (e.tabIndex = e === one ? 0 : -1));
const plain = (event) => !(event.altKey || event.ctrlKey || event.metaKey);
