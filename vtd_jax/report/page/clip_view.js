// A clip: a label and one of its frames are chosen, and everything else follows them.
// `hooks`: label(n) and frame(t) are called when the user chooses; play() plays instead of the strip.
const clipView = (hooks = {}) => {
  const strip = $("strip"), scroll = $("scroll"), near = $("near"), cards = every(".card");
  let data, frames, words, adds, heat, columns, choices, label = 0, frame = 0, timer = 0, still = true;

  const described = (t) =>
    `frame ${t + 1} of ${frames.length}${data.times[t] ? ` at ${data.times[t]}` : ""}, named ${data.words[t][0]}`;
  function sentence(t) {
    const text = described(t), rival = data.rivals[label];
    const lead = rival && `, ${signed(data.lead[t][label])} more than to that of ${rival}`;
    return `${text[0].toUpperCase()}${text.slice(1)}. Confidence for ${data.labels[label]} ${data.confidence[t][label].toFixed(2)}, ` +
      `adds ${signed(data.contribution[t][label])} to its ${data.unit}${lead}.`;
  }
  const say = () => ($("said").textContent = sentence(frame));

  function showFacts(t) {
    slot("number", t + 1);
    slot("time", data.times[t] ? `at ${data.times[t]}` : "");
    slot("word", data.words[t][0]);
    data.words[t].forEach((word, n) => {
      const row = near.children[n], cosine = data.similarity[t][n];
      row.querySelector("bdi").textContent = word;
      row.querySelector(".number").textContent = fixed(cosine);
      share(row.querySelector("i"), cosine / data.largest);
    });
    slot("confidence", data.confidence[t][label].toFixed(2));
    slot("contribution", signed(data.contribution[t][label]));
    slot("lead", signed(data.lead[t][label]));
    if (data.weight) slot("weight", data.weight[t][label].toFixed(2));
  }

  function showFrame() {
    mark(frames, frames[frame]);
    reach(frames, frames[frame]);
    columns.forEach((row) => [...row.cells].forEach((cell, c) => cell.classList.toggle("here", c === frame + 1)));
    let start = 0;
    words.forEach((cell) => {
      cell.classList.toggle("here", start <= frame && frame < start + cell.colSpan);
      start += cell.colSpan;
    });
    $("picture").src = frames[frame].querySelector("img").src;
    $("picture").alt = described(frame);
    showFacts(frame);
    $("previous").disabled = frame === 0;
    $("next").disabled = frame === frames.length - 1;
    // only the strip scrolls, not the page, and not before the user moves
    if (still) return;
    const cell = frames[frame].parentNode, side = strip.tHead.rows[0].cells[0].offsetWidth;
    const x = cell.offsetLeft - scroll.scrollLeft, room = scroll.clientWidth - cell.offsetWidth;
    if (x < side || x > room) scroll.scrollLeft += x - (side + room) / 2;
  }

  function showCards(column) {
    const keys = data.keys[label];
    frames.forEach((button, t) => {
      const sign = button.querySelector(".mark"), place = keys.indexOf(t) + 1;
      sign.hidden = !place;
      sign.querySelector("b").textContent = place || "";
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
  }

  function showLabel() {
    const column = data.lead.map((row) => row[label]);
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
    heat.forEach((row, n) => row.classList.toggle("chosen", n === label));
    words.forEach((cell) => cell.classList.toggle("own", data.own && cell.textContent === data.labels[label]));
    showCards(column);
    showFrame();
  }

  function stop() {
    clearInterval(timer);
    timer = 0;
    if (strip.isConnected) $("play").textContent = "Play";
  }
  function go(t, focus) {
    stop();
    frame = Math.min(frames.length - 1, Math.max(0, t));
    showFrame();
    if (focus) frames[frame].focus({ preventScroll: true });
    hooks.frame?.(frame);
    say();
  }
  function play() {
    if (hooks.play?.()) return;
    if (timer) return stop();
    frame = frame === frames.length - 1 ? 0 : frame;
    showFrame();
    $("play").textContent = "Pause";
    timer = setInterval(() => {
      if (!strip.isConnected) return stop();
      frame = Math.min(frames.length - 1, frame + 1);
      showFrame();
      if (frame === frames.length - 1) stop();
    }, 500);
  }
  function choose(n) {
    label = n;
    choices[n].checked = true;
    showLabel();
    hooks.label?.(n);
    say();
  }

  strip.addEventListener("click", (event) => {
    const t = frames.indexOf(event.target.closest(".frame"));
    if (t >= 0) go(t, true);
  });
  $("previous").onclick = () => go(frame - 1);
  $("next").onclick = () => go(frame + 1);
  $("play").onclick = play;
  cards.forEach((card, n) => card.addEventListener("click", () => go(data.keys[label][n])));
  strip.addEventListener("keydown", (event) => {
    if (!plain(event)) return;
    const to = { ArrowLeft: frame - 1, ArrowRight: frame + 1, Home: 0, End: frames.length - 1 }[event.key];
    if (to === undefined && event.key !== " ") return;
    event.preventDefault();
    to === undefined ? event.repeat || play() : go(to, true);
  });
  // Firefox clicks a button when the space bar is let go
  strip.addEventListener("keyup", (event) => event.key === " " && event.preventDefault());
  // the space bar plays from anywhere, while there is something of it to see, and nothing that has a use for it
  const seen = (e) => ((r) => r.bottom > 0 && r.top < innerHeight)(e.getBoundingClientRect());
  addEventListener("keydown", function space(event) {
    // a strip that is gone is kept by nothing
    if (!strip.isConnected) return removeEventListener("keydown", space);
    if (event.key !== " " || event.defaultPrevented || event.shiftKey || !plain(event)) return;
    const used = event.target.closest("a, button, input:not([type=radio]), select, textarea, summary, video, dialog, [role=radiogroup], [contenteditable]");
    if (used || !(seen($("picture").parentNode) || seen(strip))) return;
    event.preventDefault();
    event.repeat || play();
  });
  $("labels").addEventListener("change", (event) => choose(Number(event.target.value)));
  $("labels").addEventListener("keydown", (event) => {
    const n = Number(event.key) - 1;
    if (!plain(event) || !(n >= 0 && n < choices.length)) return;
    choices[n].focus();
    choose(n);
  });

  return {
    // shows other data, whose elements are in the page; without a wish the label's first keyframe
    show(given, wishedLabel = 0, wishedFrame = undefined) {
      data = given;
      frames = every(".frame", strip);
      words = every(".words td", strip);
      adds = every(".adds td", strip);
      heat = every(".heat tr", strip).slice(1);
      columns = [strip.tHead.rows[0], adds[0].parentNode, ...heat, ...every(".moved tr, tr.other", strip)];
      choices = every("input", $("labels"));
      label = wishedLabel;
      frame = Math.min(frames.length - 1, wishedFrame ?? data.keys[label][0]);
      choices[label].checked = true; // a browser may keep the choice of the last visit
      still = true;
      showLabel();
      still = false;
    },
    // follows a video that plays
    follow(t) {
      if (t === frame) return;
      frame = t;
      showFrame();
    },
    look: (t) => showFacts(t ?? frame),
    stop,
    sentence,
    go,
    frame: () => frame,
    label: () => label,
  };
};
