"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const wished = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : wished.matches);
  const show = () => button.setAttribute("aria-pressed", String(dark()));
  root.classList.add("scripts");
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    show();
  });
  wished.addEventListener("change", show);
  show();
})();
