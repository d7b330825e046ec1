// What takes time is said at the bottom of the page, and can be cancelled; above it what failed.
const dock = (() => {
  const works = [], bar = $("dock-bar");
  let retry = null;

  // a button that goes has no focus any more
  function hide(box) {
    const lost = box.contains(document.activeElement);
    box.hidden = true;
    if (lost) ($("another").hidden ? $("file") : $("another")).focus();
  }
  // the newest work; its texts are no live region: they change many times a second
  function lay() {
    const work = works.at(-1);
    if (!work?.isLong) hide($("dock"));
    if (!work?.text) return;
    $("dock").hidden = !work.isLong;
    setText($("dock-text"), work.text);
    Number.isFinite(work.part) ? (bar.value = work.part) : bar.removeAttribute("value");
  }
  function clear() {
    hide($("trouble"));
    $("trouble-text").textContent = "";
  }
  function tellUser(text, again, mild) {
    retry = again;
    $("trouble").hidden = false;
    $("trouble").classList.toggle("problem", !mild);
    $("again").hidden = !again;
    setText($("trouble-text"), text);
  }
  $("cancel").addEventListener("click", () => works.at(-1)?.stop());
  $("close").addEventListener("click", clear);
  $("again").addEventListener("click", () => {
    const again = retry;
    clear();
    again();
  });
  return {
    // work that `stop` ends: how to say where it stands, and to call at its end. What is over at once is not shown
    begin(stop) {
      const work = { stop, text: "", part: undefined, isLong: false };
      works.push(work);
      setTimeout(() => {
        if (!works.includes(work)) return;
        work.isLong = true;
        if (work.text) $("said").textContent = work.text;
        lay();
      }, 400);
      return {
        say(text, part) {
          if (!works.includes(work)) return;
          if (work.isLong && !work.text) $("said").textContent = text;
          Object.assign(work, { text, part });
          lay();
        },
        end() {
          const at = works.indexOf(work);
          if (at >= 0) works.splice(at, 1);
          lay();
        },
      };
    },
    problem: (text, again = null) => tellUser(text, again, false),
    note: (text) => tellUser(text, null, true),
    clear,
  };
})();

// Encodes the frames of the video, once for each number of them.
const encoding = (() => {
  const { state } = memory;
  // milliseconds from one try to the next
  const WAITS = [1000, 2000, 4000, 8000, 8000];
  let done = null, run = null;

  const asked = () => {
    const wanted = { video: state.video, frames: state.frames, beside: memory.beside() };
    return state.mode === "timeline" ? { ...wanted, window: state.window } : wanted;
  };
  const same = (one, other) => one && ["video", "frames", "window"].every((name) => one[name] === other[name]);
  // what is encoded for two models is there for one
  const holds = (one, other) => same(one, other) && (one.beside || !other.beside);

  function start() {
    if (!state.video) return;
    drop();
    run = { wanted: asked(), work: dock.begin(cancel), tries: 0, job: null, leave: () => {} };
    submit(run);
  }
  const forsake = (job) => server.ask(`/encode/${job}`, undefined, { method: "DELETE" }).catch(() => {});
  async function submit(mine) {
    const { wanted, work } = mine;
    try {
      const { job } = await server.json("/encode", wanted);
      // meanwhile something else is wanted
      if (run !== mine) return forsake(job);
      mine.job = job;
    } catch (error) {
      if (run !== mine) return;
      if (!error.status) return later(mine);
      over();
      return error.status === 404 ? choosing.gone(error.message) : dock.problem(error.message, start);
    }
    mine.leave();
    mine.leave = server.follow(mine.job, {
      queued: ({ ahead }) => work.say(ahead ? `${counted(ahead, "video")} before this one` : "starting"),
      progress({ stage, done: some, total }) {
        mine.tries = 0;
        work.say(`${stage}: ${grouped(Math.round(some))}${total ? ` of ${grouped(Math.round(total))}` : ""}${wanted.window ? " s" : " frames"}`, some / total);
      },
      done(data) {
        over();
        ready(data, wanted);
      },
      failed({ error }) {
        over();
        dock.problem(error);
        back();
      },
      // not by the user: the server has not heard of this page for a while, or ends
      cancelled: () => later(mine),
      broken: () => later(mine),
    });
  }
  function later(mine) {
    if (run !== mine) return;
    mine.leave();
    // a stream that breaks off after each of its events must not be asked for in a loop
    const wait = WAITS[mine.tries++];
    if (wait === undefined) {
      over();
      return dock.problem(server.SILENT, start);
    }
    mine.work.say("asking the server again");
    clearTimeout(mine.timer);
    mine.timer = setTimeout(submit, wait, mine);
  }
  // a page that slept does not know whether its stream lives
  addEventListener("visibilitychange", () => {
    if (document.visibilityState !== "visible" || !run?.job) return;
    run.tries = 0;
    clearTimeout(run.timer);
    submit(run);
  });

  function ready(data, wanted) {
    done = { ...data, asked: wanted, long: Boolean(wanted.window) };
    dock.clear();
    memory.change({ name: data.name }, false);
    choosing.named();
    controls.show();
    answers.want();
  }
  // the numbers of frames that are still shown
  function back() {
    if (!done || done.asked.video !== state.video) return choosing.reset();
    const { frames, window: span, beside } = done.asked;
    memory.change({ frames, window: span ?? state.window, mode: done.long ? "timeline" : "clip" });
    if (memory.beside() && !beside) memory.change({ beside: "no" });
    controls.show();
  }
  function over() {
    const mine = run;
    run = null;
    if (!mine) return;
    clearTimeout(mine.timer);
    mine.leave();
    mine.work.end();
    return mine.job;
  }
  function drop() {
    const job = over();
    if (job) forsake(job);
  }
  function cancel() {
    drop();
    $("said").textContent = "cancelled";
    back();
  }
  // encodes if what is kept, and what is being made, is something else
  function ensure() {
    if (holds(done?.asked, asked())) drop();
    else if (!holds(run?.wanted, asked())) start();
  }
  function need() {
    ensure();
    if (!run) answers.want();
  }
  function forget() {
    drop();
    done = null;
  }
  return { start, need, ensure, cancel, done: () => done, forget };
})();
