(() => {
  const list = document.getElementById("videos"), cards = [...list.children];
  const filter = document.getElementById("filter"), sort = document.getElementById("sort");
  const texts = cards.map((card) => `${card.dataset.name}\n${card.dataset.label}\n${card.dataset.truth ?? ""}`.toLowerCase());
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const orders = {
    "": () => 0,
    name: (a, b) => compare(a.dataset.name, b.dataset.name),
    label: (a, b) => compare(a.dataset.label, b.dataset.label) || b.dataset.score - a.dataset.score,
    score: (a, b) => b.dataset.score - a.dataset.score,
    low: (a, b) => a.dataset.score - b.dataset.score,
    wrong: (a, b) => (b.dataset.wrong ?? -1) - (a.dataset.wrong ?? -1) || b.dataset.score - a.dataset.score,
    truth: (a, b) => compare(a.dataset.truth ?? "\uffff", b.dataset.truth ?? "\uffff") || b.dataset.score - a.dataset.score,
  };
  function show() {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/);
    let count = 0;
    cards.forEach((card, i) => {
      card.hidden = !wanted.every((word) => texts[i].includes(word));
      count += !card.hidden;
    });
    document.getElementById("shown").textContent = `${count} of ${cards.length} shown`;
  }
  document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
  filter.addEventListener("input", show);
  sort.addEventListener("change", () => {
    for (const card of [...cards].sort(orders[sort.value])) list.append(card);
  });
  filter.value = sort.value = "";
  show();
})();
