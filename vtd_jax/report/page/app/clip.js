// A clip's answer in the sections of the report.
const clipAnswer = (() => {
  let view, data, encoded, last;

  function start() {
    mount("clip");
    view = clipView({
      label: (n) => {
        memory.change({ label: data.labels[n] });
        explainTemperature();
        point(null);
      },
      frame: (t) => {
        player.seek(encoded.frames[t].seconds);
        player.rail(player.times(), t);
        point(null);
      },
      play: () => player.toggle(),
    });
    const strip = $("strip");
    strip.addEventListener("pointerover", (event) => point(event.target.closest("td, th")));
    strip.addEventListener("pointerleave", () => point(null));
    strip.addEventListener("keydown", (event) => event.key === "Escape" && $("label-text").focus());
    $("show-more").addEventListener("click", () => answers.showMore());
    every("[name=explained]").forEach((input) => {
      input.checked = input.value === memory.state.explained;
      input.addEventListener("change", () => {
        memory.change({ explained: input.value });
        show(last, encoded);
      });
    });
  }

  // the frame of a cell is named, without being chosen
  function point(cell) {
    const row = cell?.parentNode, words = row?.matches(".words, .others");
    const before = words ? [...row.cells].slice(1, cell.cellIndex).reduce((sum, one) => sum + one.colSpan, 0) : cell?.cellIndex - 1;
    const t = cell && cell.cellIndex > 0 && before < encoded.frames.length ? before : null;
    view.look(t);
    name(t ?? view.frame());
  }

  function name(t) {
    const n = view.label(), rival = data.rivals[n] && `, ${signed(data.lead[t][n])} more than to ${data.rivals[n]}`;
    slot("pointed", `Frame ${t + 1} at ${data.times[t]}`);
    slot("pointed_word", data.words[t][0]);
    slot("pointed_rest", `cosine ${fixed(data.similarity[t][0])} · for ${data.labels[n]}: confidence ${data.confidence[t][n].toFixed(2)}, adds ${signed(data.contribution[t][n])}${rival}`);
  }

  // as many frames would count the same if they shared the confidence evenly
  function explainTemperature() {
    const column = data.confidence.map((row) => row[view.label()]);
    const count = 1 / column.reduce((sum, value) => sum + value * value, 0);
    setText($("temperature-note"), `${count.toFixed(1)} of ${column.length} frames count for ${data.labels[view.label()]}`);
  }

  function fillStrip(answer) {
    const { frames } = encoded, strip = $("strip"), [head] = strip.tHead.rows, count = frames.length;
    strip.style.setProperty("--t", count);
    fit(head, "th[scope=col]", count).forEach((cell, t) => setText(cell, data.times[t]));
    fit(strip.querySelector(".frames"), "td", count).forEach((cell, t) => {
      cell.firstElementChild.dataset.frame = t;
      const image = cell.querySelector("img");
      setSource(image, frames[t].picture);
      image.alt = `frame ${t + 1} of ${count} at ${data.times[t]}, named ${data.words[t][0]}`;
    });
    fillWords(strip.querySelector(".words"), data.words);
    fit(strip.querySelector(".adds"), "td", count);
    const heat = strip.querySelector(".heat"), highest = Math.max(...data.confidence.flat());
    heat.rows[0].cells[0].colSpan = count + 1;
    fit(heat, "tr:not(:first-child)", data.labels.length).forEach((row, n) => {
      setText(row.querySelector("bdi"), data.labels[n]);
      fit(row, "td", count).forEach((cell, t) => {
        const value = data.confidence[t][n];
        setText(cell, value.toFixed(2));
        cell.style.setProperty("--v", `${((100 * value) / (highest || 1)).toFixed(0)}%`);
      });
    });
    slot("highest", highest.toFixed(2));
    every(".moved").forEach((e) => (e.hidden = !answer.change));
    every(".worth").forEach((e) => (e.hidden = answer.vote_unit !== "confidence"));
    const moved = strip.querySelector(".moved tr");
    if (moved && answer.change) fit(moved, "td", count).forEach((cell, t) => setText(cell, answer.change[t].toFixed(2)));
  }

  function fillWords(row, words) {
    const runs = runsOf(words.map(([word]) => word));
    fit(row, "td", runs.length).forEach((cell, n) => {
      cell.colSpan = runs[n].length;
      cell.title = runs[n].value;
      setText(cell.querySelector("bdi"), runs[n].value);
    });
  }

  // the words that the other model gives, below
  function fillOthers(other) {
    const strip = $("strip"), words = strip.querySelector(".words");
    let row = strip.querySelector(".others");
    if (!other) return row?.remove();
    if (!row) {
      row = words.cloneNode(true);
      row.className = "others";
      row.querySelectorAll("td").forEach((cell) => (cell.className = ""));
      words.after(row);
    }
    setText(row.cells[0], memory.state.explained === "beside" ? "Word, tuned" : "Word, zero-shot");
    fillWords(row, other.frames.map(({ words: near }) => near.map(([word]) => word)));
  }

  function fillScores(answer, other, labels) {
    every("[name=explained]").forEach((input) => (input.closest(".modes").hidden = !other));
    fit($("labels"), ".choice", answer.order.length).forEach((row, n) => {
      const k = answer.order[n];
      row.querySelector("input").value = n;
      fill(row, labels[k], answer.scores[k], chance(answer.scores[k], labels.length));
      other ? fillSecond(row, other.scores[k], labels.length) : row.querySelector(".second")?.remove();
    });
    const more = labels.length - answer.order.length;
    $("more").hidden = !more;
    slot("more", counted(more, "label"));
    $("show-more").hidden = !more || answer.order.length >= known.limits.shown;
  }

  // the score of the other model, below
  function fillSecond(row, score, count) {
    let second = row.querySelector(".second");
    if (!second) {
      second = document.createElement("span");
      second.className = "note second";
      second.append(document.createElement("span"), row.querySelector(".bar").cloneNode(true), row.querySelector(".number").cloneNode());
      row.append(second);
    }
    const [named, bar, number] = second.children;
    setText(named, memory.state.explained === "beside" ? "tuned" : "zero-shot");
    share(bar.firstElementChild, score);
    setText(number, chance(score, count));
  }

  function fillToken(answer, several) {
    const total = answer.video_token.reduce((sum, { votes }) => sum + votes, 0) || 1;
    setText($("h-token"), several ? "Words of the video" : "Word of the video");
    fit($("token"), "li", answer.video_token.length).forEach((row, n) => {
      const { word, votes } = answer.video_token[n];
      fill(row, word, votes / total, votes.toFixed(2));
    });
    const word = answer.video_token[0].word;
    $("differs").hidden = word === answer.label;
    slot("first", word);
    every("#differs [data-slot=answer]").forEach((e) => setText(e, answer.label));
    slot("votes_of", answer.vocabulary_is_labels ? "the nearest label of each frame alone" : "another list of words than the labels");
  }

  function dataOf(answer, labels) {
    const similarity = answer.frames.map(({ words }) => words.map(([, cosine]) => cosine));
    const { confidence, weight, contribution, lead, rivals, unit } = answer;
    return {
      labels: answer.order.map((k) => labels[k]),
      own: answer.vocabulary_is_labels,
      times: encoded.frames.map(({ seconds }) => clock(seconds, true)),
      words: answer.frames.map(({ words }) => words.map(([word]) => word)),
      largest: Math.max(...similarity.flat(), 0) || 1,
      keys: answer.keyframes,
      similarity, confidence, weight, contribution, lead, rivals, unit,
    };
  }

  function show(given, video) {
    const beside = memory.state.explained === "beside" && given.answer.beside;
    const { model } = given.answer, answer = beside || model, other = beside ? model : given.answer.beside;
    const kept = view && encoded?.video === video.video && encoded.frames.length === video.frames.length ? view.frame() : undefined;
    if (!$("near")) start();
    [encoded, last, data] = [video, given, null];
    data = dataOf(answer, given.labels);
    fit($("near"), "li", data.words[0].length);
    fillScores(answer, other, given.labels);
    fillStrip(answer);
    fillOthers(other);
    fillToken(answer, answer.video_token.length > 1);
    slot("frames", encoded.frames.length);
    slot("unit", answer.unit);
    slot("named_from", data.own ? "the labels" : `a vocabulary of ${counted(answer.vocabulary_size, "word")}`);
    every("[data-rival]").forEach((e) => (e.hidden = given.labels.length < 2));
    every(":is(dt, th) [data-slot=rival]").forEach((e) => (e.previousSibling.textContent = given.labels.length < 2 ? `Adds to its ${answer.unit}` : "Lead over "));
    player.lead(encoded.frames.map(({ seconds }) => seconds), encoded.duration, (_, t) => {
      // frames of a short video repeat
      if (encoded.frames[t].seconds === encoded.frames[view.frame()].seconds) return;
      view.follow(t);
      player.rail(player.times(), t);
      point(null);
    });
    view.show(data, Math.max(0, data.labels.indexOf(memory.state.label)), kept);
    player.rail(player.times(), view.frame());
    if (kept === undefined) player.seek(encoded.frames[view.frame()].seconds);
    explainTemperature();
    point(null);
    return answer;
  }
  return { show, focus: () => $("strip")?.querySelector(".frame[tabindex='0']")?.focus() };
})();
