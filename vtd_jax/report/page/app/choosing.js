// A video is dropped, chosen as a file, or taken from the folder of the server.
const choosing = (() => {
  const { state } = memory;
  let sending = null;

  function open(shown) {
    $("choose").hidden = !shown;
    $("work").classList.toggle("empty", $("stage").hidden);
    $("another").hidden = !state.video;
    $("another").ariaExpanded = String(shown);
  }
  function named() {
    slot("video", state.name || "Name what a video shows");
    document.title = state.name ? `${state.name} – vtd app` : "vtd app";
  }
  function take(id, name) {
    encoding.forget();
    answers.forget();
    memory.change({ video: id, name, label: "" });
    show();
    encoding.start();
  }
  // the video of the state, before its frames are there
  function show() {
    tell($("choose-problem"), "");
    named();
    $("modes").hidden = $("stage").hidden = !state.video;
    open(!state.video);
    $("answer").hidden = $("menu").hidden = true;
    ["scores", "below"].forEach((place) => $(`place-${place}`).classList.add("stale"));
    if (state.video) player.load(state.video);
    else unmount();
    markFolder();
  }
  // there is no video any more, or none yet
  function reset() {
    player.clear();
    encoding.forget();
    memory.change({ video: "", name: "" });
    show();
  }
  function gone(message) {
    reset();
    refuse(message);
  }
  function refuse(message) {
    tell($("choose-problem"), message);
    open(true);
  }

  async function send(file, name = file.name) {
    if (file.size > known.limits.upload_bytes)
      return refuse(`${name}: has ${bytes(file.size)}, more than ${bytes(known.limits.upload_bytes)}; cut it shorter`);
    if (!file.size) return refuse(`${name}: is empty, or a folder`);
    sending?.abort();
    const control = (sending = new AbortController()), over = dock.begin(() => control.abort());
    dock.say(`sending ${name}`, 0);
    try {
      const { id, name: kept } = await server.upload(file, name, (some, all) => dock.say(`sending ${name}: ${bytes(some)} of ${bytes(all)}`, some / all), control.signal);
      over();
      take(id, kept);
    } catch (error) {
      over();
      if (error.name !== "AbortError") refuse(error.message);
    }
  }

  const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let inside = 0;
  const drag = (shown) => ($("drag").hidden = !shown);
  addEventListener("dragenter", (event) => files(event) && (++inside, drag(true)));
  addEventListener("dragleave", (event) => files(event) && --inside <= 0 && drag(false));
  addEventListener("dragover", (event) => files(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    drag((inside = 0));
    const [file, ...others] = event.dataTransfer.files;
    if (file) send(file);
    if (others.length) $("said").textContent = "One video at a time: the first one is taken.";
  });
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) send(file);
    $("file").value = "";
  });
  $("another").addEventListener("click", () => {
    open($("choose").hidden);
    if (!$("choose").hidden) ($("search") ?? $("file")).focus();
  });

  $("choose").addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !state.video) return;
    open(false);
    $("another").focus();
  });

  let listed = [], searching = 0;
  const markFolder = () => $("folder") && every(".file", $("folder")).forEach((one) => (one.dataset.id === state.video ? one.setAttribute("aria-current", "true") : one.removeAttribute("aria-current")));
  async function list() {
    const mine = ++searching;
    try {
      const { videos, more } = await server.json(`/videos?search=${encodeURIComponent($("search").value.trim())}`);
      if (mine !== searching) return;
      listed = videos;
      fit($("folder"), "li", videos.length).forEach((item, n) => {
        const button = item.firstElementChild;
        button.dataset.id = videos[n].id;
        button.tabIndex = n ? -1 : 0;
        setText(button.querySelector("bdi"), videos[n].name);
        setText(button.querySelector(".note"), bytes(videos[n].bytes));
      });
      setText($("folder-more"), videos.length ? (more ? `and ${grouped(more)} more: search for a part of the name` : "") : "no video has such a name");
      markFolder();
    } catch (error) {
      setText($("folder-more"), error.message);
    }
  }
  function browse() {
    let timer = 0;
    $("search").addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(list, 150);
    });
    $("search").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") $("folder").querySelector(".file")?.focus();
    });
    $("folder").addEventListener("click", (event) => {
      const n = every(".file", $("folder")).indexOf(event.target.closest(".file"));
      if (n >= 0) take(listed[n].id, listed[n].name);
    });
    $("folder").addEventListener("keydown", (event) => {
      const all = every(".file", $("folder")), n = all.indexOf(event.target);
      const to = { ArrowUp: n - 1, ArrowDown: n + 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined || !plain(event)) return;
      event.preventDefault();
      const next = all[Math.min(all.length - 1, Math.max(0, to))];
      reach(all, next);
      next.focus();
    });
    list();
  }
  if ($("folder")) browse();
  return { named, show, reset, gone, send };
})();
