// A timeline's answer in the sections of the report.
const timelineAnswer = (() => {
  const LANES = 40, LIKELY = 3, WORDS = 8, LEVELS = 5;
  const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];
  let view, encoded, total = 1;

  const time = (seconds) => clock(seconds, total < 60, total >= 3600);
  const long = (seconds) => clock(seconds, total < 60);

  function start() {
    mount("timeline");
    view = timelineView({ moment: (seconds) => player.seek(seconds) });
    $("chart").addEventListener("keydown", (event) => event.key === "Escape" && $("label-text").focus());
  }

  function dataOf(answer) {
    const labels = [], words = [], places = new Map(), spots = new Map();
    const index = (list, map, text) => map.get(text) ?? (map.set(text, list.length), list.push(text) - 1);
    const best = answer.windows.map(({ top }) => top.slice(0, LIKELY));
    return {
      duration: total,
      segments: answer.segments.map(textsOf),
      starts: answer.windows.map(({ start: from }) => from),
      top: best.map((row) => row.map(({ label }) => index(labels, places, label))),
      scores: best.map((row) => row.map(({ score }) => possible(score, row.length))),
      word: answer.windows.map(({ word }) => index(words, spots, word)),
      at: encoded.frames.map(({ seconds }) => seconds),
      times: encoded.frames.map(({ seconds }) => time(seconds)),
      labels, words,
    };
  }
  function textsOf(one) {
    const [from, to] = [time(one.start), time(one.end)];
    return [one.label, `${from} – ${to}`, long(one.end - one.start), one.score.toFixed(2), `${one.peak.toFixed(2)} at ${time(one.peak_at)}`,
      one.peak_at, `${one.label}, from ${from} to ${to}, score ${one.score.toFixed(2)}`];
  }

  // labels with segments, longest first
  function lanesOf(segments) {
    const lanes = new Map();
    segments.forEach(({ label, start: from, end }, i) => {
      const lane = lanes.get(label) ?? { label, seconds: 0, places: [] };
      lanes.set(label, lane);
      lane.seconds += end - from;
      lane.places.push(i);
    });
    return [...lanes.values()].sort((a, b) => b.seconds - a.seconds);
  }
  function fillLanes(lanes, segments, texts) {
    fit($("lanes"), "li", Math.min(LANES, lanes.length)).forEach((row, n) => {
      const { label, seconds, places } = lanes[n];
      setText(row.querySelector("bdi"), label);
      setText(row.querySelector("small"), long(seconds));
      fit(row.querySelector(".track"), ".segment", places.length).forEach((bar, m) => {
        const one = segments[places[m]];
        bar.dataset.segment = places[m];
        bar.title = bar.ariaLabel = texts[places[m]][6];
        bar.style.left = `min(${(100 * one.start) / total}%,100% - 5px)`;
        bar.style.width = `${(100 * (one.end - one.start)) / total}%`;
        bar.style.setProperty("--v", `${Math.round(100 * one.score)}%`);
      });
    });
    const more = lanes.length - LANES;
    $("more-lanes").hidden = more <= 0;
    slot("more_lanes", counted(Math.max(0, more), "label"));
    $("no-lanes").hidden = lanes.length > 0;
  }

  function fillTicks() {
    every(".ticks").forEach((ticks, level) => {
      const step = STEPS.find((one) => total / one <= (total < 3600 ? 11 : 7) * 2 ** level) ?? STEPS.at(-1);
      const seconds = Array.from({ length: Math.floor((0.985 * total) / step) + 1 }, (_, n) => n * step);
      fit(ticks, ".tick", seconds.length).forEach((tick, n) => {
        tick.style.left = `${(100 * seconds[n]) / total}%`;
        setText(tick, clock(seconds[n], false, total >= 3600));
      });
    });
  }

  function fillWords(windows, label) {
    const runs = runsOf(windows.map(({ word }) => word)), times = new Map();
    fit($("words"), ".run", runs.length).forEach((run, n) => {
      const { value, at, length } = runs[n], from = windows[at].start, to = windows[at + length - 1].end;
      times.set(value, (times.get(value) ?? 0) + to - from);
      run.title = value;
      setText(run, value);
      run.style.left = `${(100 * from) / total}%`;
      run.style.width = `${(100 * (to - from)) / total}%`;
    });
    $("words").ariaLabel = `${counted(runs.length, "stretch").replace(/stretchs$/, "stretches")} of windows with the same word`;
    const rows = [...times].sort((a, b) => b[1] - a[1]), more = rows.length - WORDS;
    fit($("video-words"), "li", Math.min(WORDS, rows.length)).forEach((row, n) => fill(row, rows[n][0], rows[n][1] / total, long(rows[n][1])));
    $("more-words").hidden = more <= 0;
    slot("more_words", counted(Math.max(0, more), "word"));
    $("differs").hidden = rows[0][0] === label;
    slot("first", rows[0][0]);
    every("#differs [data-slot=answer]").forEach((e) => setText(e, label));
  }

  function fillPictures(data) {
    fit($("pictures"), "li", encoded.frames.length).forEach((item, n) => {
      const image = item.querySelector("img"), text = image.nextSibling;
      const w = data.starts.findLastIndex((from) => from <= data.at[n]);
      setSource(image, encoded.frames[n].picture);
      image.alt = `picture, named ${data.words[data.word[Math.max(0, w)]]},`;
      text ? (text.data = data.times[n]) : image.after(data.times[n]);
    });
  }

  function fillTable(segments) {
    fit($("table").tBodies[0], "tr", segments.length).forEach((row, n) => {
      const one = segments[n];
      setText(row.querySelector("bdi"), one.label);
      const texts = [time(one.start), time(one.end), long(one.end - one.start), one.score.toFixed(2), `${one.peak.toFixed(2)} at ${time(one.peak_at)}`];
      [...row.cells].slice(1).forEach((cell, m) => setText(cell, texts[m]));
    });
  }

  function show(given, video) {
    const answer = given.answer.model, before = view && encoded?.video === video.video ? view.second() : undefined;
    if (!$("likely")) start();
    encoded = video;
    total = Math.max(answer.duration, 1e-3);
    const data = dataOf(answer), lanes = lanesOf(answer.segments);
    fit($("likely"), "li", data.top[0].length);
    fit($("means"), "li", answer.top.length).forEach((row, n) => fill(row, answer.top[n].label, answer.top[n].score, chance(answer.top[n].score, given.labels.length)));
    slot("threshold", String(answer.threshold));
    fillLanes(lanes, answer.segments, data.segments);
    fillTicks();
    fillWords(answer.windows, answer.label);
    fillPictures(data);
    fillTable(answer.segments);
    setText($("temperature-note"), "lower: fewer frames of a window count");
    player.lead(data.at, total, (seconds) => view.follow(Math.min(seconds, total), time(seconds)));
    player.rail(data.at);
    const places = lanes[0]?.places ?? [];
    const longest = places.toSorted((a, b) => answer.segments[b].end - answer.segments[b].start - answer.segments[a].end + answer.segments[a].start)[0];
    const stay = before !== undefined && { moment: Math.min(before, total), time: time(before) };
    view.show(data, stay || (longest !== undefined ? { segment: longest } : {}));
    if (before === undefined) player.seek(view.second());
    return answer;
  }
  return { show, focus: () => $("chart")?.querySelector("[tabindex='0']")?.focus() };
})();
