// A long video: a segment or a moment is chosen, and everything else follows.
// `hooks`: moment(seconds) is called when the user chooses.
const timelineView = (hooks = {}) => {
  const chart = $("chart"), scroll = $("scroll"), now = $("now");
  let data, bars, rows, lanes, pictures, runs, still = true, chosen = null, level = 0, second = 0;

  const place = (list, value) => {
    let low = 0, high = list.length;
    while (low < high) list[(low + high) >> 1] <= value ? (low = ((low + high) >> 1) + 1) : (high = (low + high) >> 1);
    return Math.max(0, low - 1);
  };
  const nearest = (moment) => data.at.reduce((best, at, n) => (Math.abs(at - moment) < Math.abs(data.at[best] - moment) ? n : best), 0);
  // boxes scroll in themselves; the page stays where it is, and boxes begin at the beginning
  function bring(box, left, right, side) {
    if (still) return;
    if (left - side < box.scrollLeft || right > box.scrollLeft + box.clientWidth)
      box.scrollLeft = (left + right - side - box.clientWidth) / 2;
  }
  const side = () => chart.querySelector(".lane > :first-child").offsetWidth;

  function show(moment, time) {
    const w = place(data.starts, moment), n = nearest(moment), picture = pictures[n];
    second = moment;
    slot("moment", time);
    slot("word", data.words[data.word[w]]);
    data.top[w].forEach((k, i) => {
      const row = $("likely").children[i];
      row.querySelector("bdi").textContent = data.labels[k];
      row.querySelector(".number").textContent = percent(data.scores[w][i]);
      share(row.querySelector("i"), data.scores[w][i]);
    });
    $("picture").src = picture.querySelector("img").src;
    $("picture").alt = `picture near ${time}`;
    mark(pictures, picture);
    reach(pictures, picture);
    now.style.left = `${(100 * moment) / data.duration}%`;
    const cell = picture.parentNode;
    bring($("strip"), cell.offsetLeft, cell.offsetLeft + cell.offsetWidth, 0);
    const x = side() + (now.parentNode.offsetWidth * moment) / data.duration;
    bring(scroll, x, x, side());
  }

  function choose(i, speak = true) {
    chosen = i;
    const [label, when, lasts, mean, peak, at, text] = data.segments[i];
    const bar = bars.find((b) => Number(b.dataset.segment) === i);
    Object.entries({ segment: label, when, lasts, mean, peak }).forEach(([name, value]) => slot(name, value));
    $("segment").hidden = false;
    mark(bars, bar);
    reach(bars, bar);
    rows.forEach((row, n) => row.classList.toggle("chosen", n === i));
    const box = $("table").parentNode, top = rows[i].offsetTop;
    if (!still && (top < box.scrollTop + 40 || top + 40 > box.scrollTop + box.clientHeight)) box.scrollTop = top - box.clientHeight / 2;
    runs.forEach((run) => run.classList.toggle("own", run.textContent === label));
    $("previous").disabled = i === 0;
    $("next").disabled = i === data.segments.length - 1;
    show(at, peak.split(" at ")[1]);
    if (speak) $("said").textContent = text;
    if (!still) hooks.moment?.(at);
  }

  function leave() {
    chosen = null;
    $("segment").hidden = true;
    mark(bars, null);
    rows.forEach((row) => row.classList.remove("chosen"));
    $("previous").disabled = $("next").disabled = !data.segments.length;
  }

  function moment(n) {
    leave();
    show(data.at[n], data.times[n]);
    $("said").textContent = `At ${data.times[n]}: ${$("likely").querySelector("bdi").textContent}`;
    if (!still) hooks.moment?.(data.at[n]);
  }

  chart.addEventListener("click", (event) => {
    const bar = event.target.closest(".segment");
    if (bar) choose(Number(bar.dataset.segment));
  });
  chart.addEventListener("keydown", (event) => {
    const bar = event.target.closest(".segment");
    if (!bar || !plain(event)) return;
    const y = lanes.findIndex((lane) => lane.includes(bar)), lane = lanes[y], x = lane.indexOf(bar);
    const beside = (other) =>
      other && other.reduce((best, b) => (Math.abs(b.offsetLeft - bar.offsetLeft) < Math.abs(best.offsetLeft - bar.offsetLeft) ? b : best));
    const moves = { ArrowLeft: () => lane[x - 1], ArrowRight: () => lane[x + 1], Home: () => lane[0], End: () => lane.at(-1),
      ArrowUp: () => beside(lanes[y - 1]), ArrowDown: () => beside(lanes[y + 1]) };
    if (!moves[event.key]) return;
    event.preventDefault();
    const to = moves[event.key]();
    if (!to) return;
    reach(bars, to);
    to.focus({ preventScroll: true });
    to.scrollIntoView({ block: "nearest", inline: "nearest" });
    bring(scroll, side() + to.offsetLeft, side() + to.offsetLeft + Math.min(to.offsetWidth, 80), side());
  });
  const step = (by) => {
    const at = chosen === null ? nextTo(by) : chosen + by;
    if (at >= 0 && at < data.segments.length) choose(at);
  };
  // from a moment without a chosen segment: the one before or after it in time
  const nextTo = (by) => {
    const later = data.segments.findIndex((s) => s[5] > second);
    return by > 0 ? (later < 0 ? data.segments.length - 1 : later) : Math.max(0, (later < 0 ? data.segments.length : later) - 1);
  };
  $("previous").onclick = () => step(-1);
  $("next").onclick = () => step(1);
  $("pictures").addEventListener("click", (event) => {
    const n = pictures.indexOf(event.target.closest(".picture"));
    if (n >= 0) moment(n);
  });
  $("pictures").addEventListener("keydown", (event) => {
    const n = pictures.indexOf(event.target.closest(".picture")), last = pictures.length - 1;
    const to = { ArrowLeft: n - 1, ArrowRight: n + 1, Home: 0, End: last }[event.key];
    if (n < 0 || to === undefined || !plain(event)) return;
    event.preventDefault();
    moment(Math.min(last, Math.max(0, to)));
    pictures[Math.min(last, Math.max(0, to))].focus({ preventScroll: true });
  });
  function zoom(to) {
    level = Math.min(4, Math.max(0, to));
    const middle = parseFloat(now.style.left) / 100;
    chart.dataset.level = level;
    chart.style.setProperty("--zoom", 2 ** level);
    $("factor").textContent = `${2 ** level}×`;
    $("out").disabled = level === 0;
    $("in").disabled = level === 4;
    const track = now.parentNode.offsetWidth;
    runs.forEach((run) => run.classList.toggle("thin", (parseFloat(run.style.width) * track) / 100 < 36));
    if (!still) scroll.scrollLeft = side() + track * middle - scroll.clientWidth / 2;
  }
  $("out").addEventListener("click", () => zoom(level - 1));
  $("in").addEventListener("click", () => zoom(level + 1));

  return {
    // shows other data, whose elements are in the page; `wish`: a moment in seconds and as a text, or the index of a segment
    show(given, wish = {}) {
      data = given;
      bars = every(".segment", chart);
      rows = [...$("table").tBodies[0].rows];
      lanes = every("li", chart).map((lane) => every(".segment", lane));
      pictures = every(".picture");
      runs = every(".run");
      still = true;
      zoom(level);
      reach(bars, bars[0]);
      if (wish.segment !== undefined) choose(wish.segment, false);
      else if (wish.moment !== undefined) this.follow(wish.moment, wish.time);
      else moment(nearest(data.duration / 2));
      still = false;
    },
    // follows a video that plays
    follow(moment, time) {
      leave();
      show(moment, time);
    },
    second: () => second,
  };
};
