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
    // a title has no <bdi>: what turns the direction round stays out
    document.title = state.name ? `${state.name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "")} – vtd app` : "vtd app";
  }
  function take(id, name) {
    // the newest choice counts
    sending?.abort();
    const lost = $("choose").contains(document.activeElement);
    if (id === state.video) {
      open(false);
      encoding.need();
    } else {
      encoding.forget();
      memory.change({ video: id, name, label: "" });
      show();
      encoding.start();
    }
    // what had the focus is hidden
    if (lost) (memory.list(state.labels).length ? $("another") : $("label-text")).focus();
  }
  // the video of the state, before its frames are there
  function show() {
    tell($("choose-problem"), "");
    named();
    $("modes").hidden = $("stage").hidden = !state.video;
    open(!state.video);
    answers.forget();
    unmount();
    state.video ? player.load(state.video) : player.clear();
    markFolder();
  }
  // there is no video any more, or none yet
  function reset() {
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
    if (!file.size) return refuse(`${name}: is empty`);
    sending?.abort();
    tell($("choose-problem"), "");
    const control = (sending = new AbortController()), work = dock.begin(() => control.abort());
    work.say(`sending ${name}`, 0);
    try {
      // what cannot be read would look like a server that is silent
      await file.slice(0, 1).arrayBuffer().catch(() => {
        throw new Error(`${name}: cannot be read; it is a folder, not for you, or not there any more`);
      });
      if (control.signal.aborted) return;
      const { id, name: kept } = await server.upload(file, name, (some, all) => work.say(`sending ${name}: ${bytes(some)} of ${bytes(all)}`, some / all), control.signal);
      if (sending === control) sending = null;
      take(id, kept);
    } catch (error) {
      if (error.name !== "AbortError") refuse(error.message);
    } finally {
      work.end();
    }
  }

  const files = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const drag = (shown) => ($("drag").hidden = !shown);
  // a text goes into a field; a browser would leave the page for a link that is dropped elsewhere
  const isText = (event) => !files(event) && event.target.closest?.("textarea, [type=search]");
  addEventListener("dragenter", (event) => files(event) && drag(true));
  // out of the window
  addEventListener("dragleave", (event) => event.relatedTarget || drag(false));
  addEventListener("dragover", (event) => {
    if (isText(event)) return;
    event.preventDefault();
    if (!files(event)) event.dataTransfer.dropEffect = "none";
  });
  addEventListener("drop", (event) => {
    drag(false);
    if (isText(event)) return;
    event.preventDefault();
    if (!files(event)) return;
    const entries = [...event.dataTransfer.items].map((one) => one.kind === "file" && one.webkitGetAsEntry());
    const some = [...event.dataTransfer.files], real = some.filter((_, n) => !entries[n]?.isDirectory);
    if (!real.length) return refuse(`${some[0]?.name ?? "This"}: is a folder; drop a video of it`);
    const film = real.find(({ name, type }) => type.startsWith("video/") || known.endings.some((ending) => name.toLowerCase().endsWith(ending))) ?? real[0];
    dock.clear();
    if (some.length > 1) dock.note(`${some.length} were dropped, and one is taken at a time: ${film.name}`);
    send(film);
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
      if (n < 0) return;
      dock.clear();
      take(listed[n].id, listed[n].name);
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
