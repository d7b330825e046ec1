{
  const chosen = every(".segment").find((bar) => bar.hasAttribute("aria-current"));
  timelineView().show(JSON.parse($("data").textContent), chosen && { segment: Number(chosen.dataset.segment) });
}
