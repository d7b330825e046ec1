// The video beside the frames: one leads, the other follows.
const player = (() => {
  const film = $("film"), picture = $("picture"), note = $("film-note");
  let times = [], duration = 0, ahead = null, follow = () => {}, mayPlay = false, refused = "";

  function cannot() {
    const ending = memory.state.name.split(".").at(-1).slice(0, 8).toUpperCase();
    refused = memory.state.video;
    film.removeAttribute("src");
    film.load();
    showFilm(false);
    tell(note, `This browser does not play this ${memory.state.name.includes(".") ? ending : "video"}: frames are shown alone.`);
  }
  function showFilm(shown) {
    mayPlay = shown;
    film.hidden = !shown;
    picture.hidden = shown;
    $("play").hidden = shown || memory.state.mode !== "clip";
  }
  function forget() {
    [times, duration, ahead, follow] = [[], 0, null, () => {}];
    showRail([]);
    tell(note, "");
    setSource(picture, "data:,");
    picture.alt = "";
    showFilm(false);
  }
  film.addEventListener("error", () => film.getAttribute("src") && cannot());
  // sound alone is no film
  film.addEventListener("loadedmetadata", () => {
    if (!film.videoWidth) return cannot();
    showFilm(true);
    if (ahead !== null) seek(ahead);
  });

  const nearest = (seconds) => times.reduce((best, at, t) => (Math.abs(at - seconds) < Math.abs(times[best] - seconds) ? t : best), 0);
  function tick() {
    if (!mayPlay) return;
    if (ahead !== null && film.seeking) return;
    ahead = null;
    follow(film.currentTime, nearest(film.currentTime));
  }
  function run() {
    tick();
    if (!film.paused && !film.ended) requestAnimationFrame(run);
  }
  film.addEventListener("play", run);
  film.addEventListener("timeupdate", () => film.paused && ahead === null && tick());
  film.addEventListener("seeked", () => setTimeout(() => (ahead = null)));
  film.addEventListener("seeking", () => ahead === null && tick());

  // a film that is not loaded yet begins there
  function seek(seconds) {
    ahead = seconds;
    if (!mayPlay) return;
    film.pause();
    film.currentTime = Math.min(seconds, Number.isFinite(film.duration) ? film.duration : seconds);
  }
  function showRail(moments, at = null) {
    const marks = fit($("rail"), "i", moments.length);
    marks.forEach((one, t) => {
      one.style.left = `${duration ? (100 * moments[t]) / duration : 0}%`;
      one.classList.toggle("here", t === at);
    });
  }
  return {
    load(id) {
      film.pause();
      // nothing of the video before
      forget();
      if (refused === id) return cannot();
      film.src = server.address(`/video/${id}`);
      film.load();
    },
    clear() {
      forget();
      film.removeAttribute("src");
      film.load();
    },
    // the times of the frames, and who follows
    lead(moments, length, follower) {
      [times, duration, follow] = [moments, length, follower];
    },
    seek,
    // whether it plays or pauses itself
    toggle() {
      if (!mayPlay) return false;
      film.paused ? film.play().catch(() => {}) : film.pause();
      return true;
    },
    playing: () => mayPlay && !film.paused,
    rail: showRail,
    times: () => times,
  };
})();
