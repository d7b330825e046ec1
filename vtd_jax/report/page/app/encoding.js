// What takes time is said at the bottom of the page, and can be cancelled.
const dock = (() => {
  let cancel = null, timer = 0;
  $("cancel").addEventListener("click", () => (cancel ? cancel() : ($("dock").hidden = true)));
  function lay(text, part, button) {
    clearTimeout(timer);
    $("dock").hidden = false;
    $("dock").classList.toggle("problem", button === "Close");
    setText($("dock-text"), text);
    $("dock-bar").hidden = button === "Close";
    part === undefined || !Number.isFinite(part) ? $("dock-bar").removeAttribute("value") : ($("dock-bar").value = part);
    setText($("cancel"), button);
  }
  return {
    // work that `stopped` ends; returns what to call at its end. What is over at once is not shown
    begin(stopped) {
      cancel = stopped;
      clearTimeout(timer);
      return () => {
        if (cancel !== stopped) return;
        cancel = null;
        $("dock").hidden = true;
      };
    },
    say: (text, part) => lay(text, part, "Cancel"),
    problem(text) {
      cancel = null;
      lay(text, undefined, "Close");
    },
  };
})();

// Encodes the frames of the video, once for each number of them.
const encoding = (() => {
  const { state } = memory;
  let done = null, job = null, leave = () => {}, turn = 0;

  const asked = () => {
    const wanted = { video: state.video, frames: state.frames, beside: Boolean(known.beside) };
    return state.mode === "timeline" ? { ...wanted, window: state.window } : wanted;
  };
  const same = (one, other) => one && ["video", "frames", "window"].every((name) => one[name] === other[name]);

  async function start() {
    if (!state.video) return;
    const mine = ++turn, wanted = asked();
    drop();
    const over = dock.begin(cancel);
    try {
      job = (await server.json("/encode", wanted)).job;
    } catch (error) {
      over();
      return mine === turn && (error.status === 404 ? choosing.gone(error.message) : dock.problem(error.message));
    }
    if (mine !== turn) return;
    const end = (act) => (data) => {
      if (mine !== turn) return;
      job = null;
      over();
      act(data);
    };
    leave = server.follow(job, {
      queued: ({ ahead }) => dock.say(ahead ? `${counted(ahead, "video")} before this one` : "starting"),
      progress: ({ stage, done: some, total }) =>
        dock.say(`${stage}: ${grouped(Math.round(some))}${total ? ` of ${grouped(Math.round(total))}` : ""}${wanted.window ? " s" : " frames"}`, some / total),
      done: end((data) => ready(data, wanted)),
      failed: end(({ error }) => {
        dock.problem(error);
        back();
      }),
      cancelled: end(back),
    });
  }
  function ready(data, wanted) {
    done = { ...data, asked: wanted, long: Boolean(wanted.window) };
    memory.change({ name: data.name }, false);
    choosing.named();
    controls.show();
    answers.want();
  }
  // the numbers of frames that are still shown
  function back() {
    if (!done || done.asked.video !== state.video) return choosing.reset();
    memory.change({ frames: done.asked.frames, window: done.asked.window ?? state.window, mode: done.long ? "timeline" : "clip" });
    controls.show();
  }
  function drop() {
    leave();
    if (job) server.ask(`/encode/${job}`, undefined, { method: "DELETE" }).catch(() => {});
    job = null;
  }
  function cancel() {
    ++turn;
    drop();
    $("dock").hidden = true;
    $("said").textContent = "cancelled";
    back();
  }
  // encodes if what is kept is something else
  function need() {
    if (same(done?.asked, asked())) return answers.want();
    start();
  }
  return { start, need, cancel, done: () => done, forget: () => (done = null) };
})();
