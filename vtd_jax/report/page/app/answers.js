// Asks for answers: only the newest one is shown, and an edit takes back what is asked already.
const answers = (() => {
  const { state } = memory, { limits } = known;
  // texts that are encoded in a request of their own, so that there is progress
  const PORTION = Math.min(200, limits.portion);
  // seconds from which a timeline says more than a clip
  const LONG = 60;
  const seen = new Set();
  let shown = 12, serial = 0, asking = null, again = false, timer = 0, last = null, speech = 0, lost = 0;

  function body() {
    const words = memory.list(state.words), long = state.mode === "timeline", encoded = encoding.done()?.asked;
    const asked = { video: state.video, labels: memory.list(state.labels), frames: encoded?.frames ?? state.frames,
      temperature: state.temperature, vocabulary: words.length ? words : null, shown, beside: memory.beside() && Boolean(encoded?.beside) };
    return long ? { ...asked, window: encoded?.window ?? state.window, threshold: state.threshold } : asked;
  }

  // `edit`: what is asked already is not wanted any more; otherwise this comes after it
  function want({ wait = 0, edit = true } = {}) {
    clearTimeout(timer);
    if (edit) asking?.abort();
    timer = setTimeout(send, wait);
  }

  async function send() {
    if (asking && !asking.signal.aborted) return (again = true);
    again = false;
    // after a server that was silent, or busy
    encoding.ensure();
    const asked = body(), encoded = encoding.done();
    // at the end of an encoding this is called again
    if (!encoded || encoded.asked.video !== state.video || encoded.long !== Boolean(asked.window)) return;
    if (!asked.labels.length) return nothing();
    const [many, more] = [excess(asked.labels, limits.labels, "labels"), excess(asked.vocabulary ?? [], limits.words, "words")];
    if (many || more) return problems(many, more);
    const mine = ++serial, control = (asking = new AbortController()), begun = performance.now();
    const slow = setTimeout(() => stale(true), 300);
    try {
      await encodeWords([...asked.labels, ...(asked.vocabulary ?? [])], control.signal);
      const found = await server.json(`/${asked.window ? "timeline" : "answer"}`, { ...asked, serial: mine }, { signal: control.signal });
      if (found.serial !== serial) return;
      [...asked.labels, ...(asked.vocabulary ?? [])].forEach((text) => seen.add(text));
      show({ answer: found, labels: asked.labels, asked, took: performance.now() - begun });
    } catch (error) {
      if (error.name !== "AbortError" && mine === serial) failed(error);
    } finally {
      clearTimeout(slow);
      if (asking === control) {
        asking = null;
        if (again) send();
      }
    }
  }

  // what the server would not take
  function excess(texts, most, what) {
    if (texts.length > most) return `${grouped(texts.length)} ${what}: at most ${grouped(most)} are taken; leave some out`;
    const long = texts.find((text) => text.length > limits.characters);
    return long ? `“${long.slice(0, 30)}…” has ${grouped(long.length)} characters: at most ${grouped(limits.characters)} are taken` : "";
  }

  // a long list of new texts
  async function encodeWords(texts, signal) {
    const fresh = [...new Set(texts)].filter((text) => !seen.has(text));
    if (fresh.length <= PORTION) return;
    const work = dock.begin(() => {
      asking?.abort();
      problems("", "Cancelled. Another edit encodes the rest.");
    });
    try {
      for (let at = 0; at < fresh.length; at += PORTION) {
        work.say(`encoding texts: ${grouped(at)} of ${grouped(fresh.length)}`, at / fresh.length);
        await server.json("/words", { words: fresh.slice(at, at + PORTION) }, { signal });
        fresh.slice(at, at + PORTION).forEach((text) => seen.add(text));
      }
    } catch (error) {
      // the answer says which text it is, and in which field
      if (error.status !== 422) throw error;
    } finally {
      work.end();
    }
  }

  // what is shown is not of these labels and words; sliders are
  function stale(old, closed = false) {
    const shown = every(":scope > :not(:has(#controls)), :scope > :has(#controls) > :not(#controls, h2)", $("place-below"));
    for (const one of [$("place-scores"), $("answer"), ...shown]) {
      one.classList.toggle("stale", old);
      one.inert = closed;
    }
  }
  function problems(labels, words = "") {
    stale(Boolean(labels || words));
    tell($("label-problem"), labels);
    tell($("word-problem"), words);
    $("label-text").ariaInvalid = Boolean(labels);
    $("word-text").ariaInvalid = Boolean(words);
    if (words) $("word-box").open = true;
  }
  function failed(error) {
    // a video that the server cannot keep would be encoded for ever
    if (error.encode && ++lost < 3) return encodeAgain();
    if (error.status === 404) return choosing.gone(error.message);
    // what only a call in Python can do
    const message = error.message.replace(/, or pass \w+=\w+ .*$/s, "");
    if (/^vocabulary\b/.test(error.message) || /vocabulary/.test(error.message.slice(0, 40))) return problems("", message);
    if (error.status === 422 || error.status === 400) return problems(message);
    stale(true);
    dock.problem(error.message, () => want());
  }
  // the server may have been started again: it knows no texts either
  function encodeAgain() {
    seen.clear();
    encoding.start();
  }

  function nothing() {
    forget();
    problems("");
    stale(true, true);
    tell($("label-count"), "type one or more");
  }

  function show(given) {
    const long = Boolean(given.asked.window), encoded = encoding.done();
    if (encoded?.asked.video !== given.asked.video || encoded.long !== long) return;
    last = given;
    lost = 0;
    problems("");
    dock.clear();
    const answer = (long ? timelineAnswer : clipAnswer).show(given, encoded), other = given.answer.beside;
    every("#answer [data-slot=answer]").forEach((e) => setText(e, answer.label));
    slot("score", chance(answer.score, given.labels.length));
    const [count, total] = [encoded.frames.length, encoded.total];
    const taken = total < count ? `${counted(total, "frame")}, repeated to ${count}` : `${counted(count, "frame")} of ${grouped(total)}`;
    const shown = long
      ? ["mean over the whole video", clock(answer.duration, true), `${counted(answer.windows.length, "window")} of ${Number(answer.window.toFixed(2))} s`, counted(answer.segments.length, "segment")]
      : [taken, clock(encoded.duration, true)];
    slot("facts", [...shown, given.labels.length === 1 ? "a single label always has all" : `best of ${counted(given.labels.length, "label")}`].join(" · "));
    slot("took", ` · answered in ${Math.round(given.took)} ms`);
    slot("remark", encoded.note ? `${encoded.note[0].toUpperCase()}${encoded.note.slice(1)}.` : "");
    $("offer").hidden = long || !(encoded.duration > LONG);
    $("other").hidden = !other;
    if (other) {
      const tuned = answer === other;
      slot("other_name", tuned ? "Tuned" : "Zero-shot");
      slot("other", (tuned ? given.answer.model : other).label);
      slot("other_score", chance((tuned ? given.answer.model : other).score, given.labels.length));
    }
    const both = "Report and CSV are of the tuned model, JSON and Python of both.";
    if (known.beside) setText($("menu-note"), other ? both : "All of the tuned model alone.");
    $("answer").hidden = $("menu").hidden = false;
    clearTimeout(speech);
    speech = setTimeout(() => setText($("said"), `${answer.label}, ${chance(answer.score, given.labels.length)}, best of ${counted(given.labels.length, "label")}`), 900);
  }
  // nothing of it is shown any more, nor what is asked already
  function forget() {
    clearTimeout(timer);
    clearTimeout(speech);
    asking?.abort();
    ++serial;
    last = null;
    $("menu").open = false;
    $("answer").hidden = $("menu").hidden = true;
  }
  function showMore() {
    shown = limits.shown;
    want();
    $("labels").querySelector(":checked").focus();
  }
  return { want, showMore, encodeAgain, last: () => last, forget };
})();
