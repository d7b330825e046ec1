(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const slot = (name, value) => document.querySelectorAll(`[data-slot="${name}"]`).forEach((e) => (e.textContent = value));
  const width = (name, share) =>
    document.querySelectorAll(`[data-slot="${name}"]`).forEach((e) => (e.style.width = `${100 * Math.min(1, Math.max(0, share))}%`));
  const signed = (x) => (Number(x.toFixed(2)) < 0 ? "−" : "+") + Math.abs(x).toFixed(2);
  const strip = $("strip"), scroll = $("scroll"), frames = [...strip.querySelectorAll(".frame")], last = frames.length - 1;
  const words = [...strip.querySelectorAll(".words td")], adds = [...strip.querySelectorAll(".adds td")];
  const heat = [...strip.querySelectorAll(".heat tr")].slice(1);
  const columns = [strip.tHead.rows[0], adds[0].parentNode, ...heat, ...strip.querySelectorAll(".moved tr")];
  const cards = [...document.querySelectorAll(".card")];
  const choices = [...$("labels").querySelectorAll("input")];
  let label = 0, frame = data.keys[0][0], timer = 0, opening = true;

  const described = (t) =>
    `frame ${t + 1} of ${frames.length}${data.times[t] ? ` at ${data.times[t]}` : ""}, named ${data.words[t][0]}`;

  function say() {
    const share = data.confidence[frame][label].toFixed(2), added = signed(data.contribution[frame][label]);
    const text = described(frame), rival = data.rivals[label];
    const lead = rival && `, ${signed(data.lead[frame][label])} more than to that of ${rival}`;
    $("said").textContent =
      `${text[0].toUpperCase()}${text.slice(1)}. Confidence for ${data.labels[label]} ${share}, adds ${added} to its ${data.unit}${lead}.`;
  }

  function showFrame() {
    frames.forEach((button, t) => {
      button.tabIndex = t === frame ? 0 : -1;
      t === frame ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current");
    });
    columns.forEach((row) => [...row.cells].forEach((cell, c) => cell.classList.toggle("here", c === frame + 1)));
    let start = 0;
    words.forEach((cell) => {
      cell.classList.toggle("here", start <= frame && frame < start + cell.colSpan);
      start += cell.colSpan;
    });
    $("picture").src = frames[frame].querySelector("img").src;
    $("picture").alt = described(frame);
    slot("number", frame + 1);
    slot("time", data.times[frame] ? `at ${data.times[frame]}` : "");
    slot("word", data.words[frame][0]);
    data.words[frame].forEach((word, n) => {
      slot(`word${n}`, word);
      slot(`cosine${n}`, data.similarity[frame][n].toFixed(3));
      width(`near${n}`, data.similarity[frame][n] / data.largest);
    });
    slot("confidence", data.confidence[frame][label].toFixed(2));
    slot("contribution", signed(data.contribution[frame][label]));
    slot("lead", signed(data.lead[frame][label]));
    $("previous").disabled = frame === 0;
    $("next").disabled = frame === last;
    // only the strip scrolls, not the page, and not before the user moves
    if (opening) return;
    const cell = frames[frame].parentNode, side = strip.tHead.rows[0].cells[0].offsetWidth;
    const x = cell.offsetLeft - scroll.scrollLeft, room = scroll.clientWidth - cell.offsetWidth;
    if (x < side || x > room) scroll.scrollLeft += x - (side + room) / 2;
  }

  function showLabel() {
    const column = data.lead.map((row) => row[label]), keys = data.keys[label];
    const low = Math.min(0, ...column), range = Math.max(0, ...column) - low || 1;
    adds[0].parentNode.style.setProperty("--base", `${(-100 * low) / range}%`);
    slot("label", data.labels[label]);
    slot("rival", data.rivals[label]);
    slot("which", label ? "the best label" : "the runner-up");
    slot("sum", signed(column.reduce((sum, value) => sum + value, 0)));
    adds.forEach((cell, t) => {
      const bar = cell.querySelector("i");
      bar.style.setProperty("--h", `${(100 * Math.abs(column[t])) / range}%`);
      bar.classList.toggle("less", column[t] < 0);
      cell.lastElementChild.textContent = signed(column[t]);
    });
    frames.forEach((button, t) => {
      const mark = button.querySelector(".mark"), place = keys.indexOf(t) + 1;
      mark.hidden = !place;
      mark.querySelector("b").textContent = place || "";
    });
    cards.forEach((card, n) => (card.parentNode.hidden = n >= keys.length));
    keys.forEach((t, n) => {
      const picture = document.querySelector(`[data-slot="key${n}"]`);
      picture.src = frames[t].querySelector("img").src;
      picture.alt = described(t);
      slot(`added${n}`, signed(column[t]));
      slot(`named${n}`, data.words[t][0]);
      slot(`when${n}`, data.times[t]);
    });
    heat.forEach((row, n) => row.classList.toggle("chosen", n === label));
    words.forEach((cell) => cell.classList.toggle("own", data.own && cell.textContent === data.labels[label]));
    showFrame();
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    $("play").textContent = "Play";
  }
  function go(t, focus) {
    stop();
    frame = Math.min(last, Math.max(0, t));
    showFrame();
    if (focus) frames[frame].focus({ preventScroll: true });
    say();
  }
  function play() {
    if (timer) return stop();
    frame = frame === last ? 0 : frame;
    showFrame();
    $("play").textContent = "Pause";
    timer = setInterval(() => {
      frame = Math.min(last, frame + 1);
      showFrame();
      if (frame === last) stop();
    }, 500);
  }
  function choose(n) {
    label = n;
    choices[n].checked = true;
    showLabel();
    say();
  }

  frames.forEach((button, t) => button.addEventListener("click", () => go(t, true)));
  $("previous").addEventListener("click", () => go(frame - 1));
  $("next").addEventListener("click", () => go(frame + 1));
  $("play").addEventListener("click", play);
  cards.forEach((card, n) => card.addEventListener("click", () => go(data.keys[label][n])));
  strip.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const to = { ArrowLeft: frame - 1, ArrowRight: frame + 1, Home: 0, End: last }[event.key];
    if (to === undefined && event.key !== " ") return;
    event.preventDefault();
    to === undefined ? event.repeat || play() : go(to, true);
  });
  // Firefox clicks a button when the space bar is let go
  strip.addEventListener("keyup", (event) => event.key === " " && event.preventDefault());
  // the space bar plays from anywhere, while there is something of it to see, and nothing that has a use for it
  const seen = (e) => ((r) => r.bottom > 0 && r.top < innerHeight)(e.getBoundingClientRect());
  addEventListener("keydown", (event) => {
    if (event.key !== " " || event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const used = event.target.closest("a, button, input:not([type=radio]), select, textarea, summary, [contenteditable]");
    if (used || !(seen($("picture")) || seen(strip))) return;
    event.preventDefault();
    event.repeat || play();
  });
  $("labels").addEventListener("change", (event) => choose(Number(event.target.value)));
  $("labels").addEventListener("keydown", (event) => {
    const n = Number(event.key) - 1;
    if (event.altKey || event.ctrlKey || event.metaKey || !(n >= 0 && n < choices.length)) return;
    choices[n].focus();
    choose(n);
  });
  choices[0].checked = true; // a browser may keep the choice of the last visit
  showLabel();
  opening = false;
})();
