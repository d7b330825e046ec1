// Records the camera, where the browser allows it.
{
  const box = $("camera-box"), view = $("camera-view"), button = $("camera-start"), note = $("camera-note");
  const LONGEST = 60;
  let stream = null, recorder = null, timer = 0, opening = false;

  const WHY = {
    NotAllowedError: "The browser does not allow the camera here; its settings for this page can.",
    NotFoundError: "There is no camera.",
    NotReadableError: "Another program uses the camera.",
  };
  const stop = () => {
    clearInterval(timer);
    if (recorder?.state === "recording") recorder.stop();
    stream?.getTracks().forEach((track) => track.stop());
    stream = recorder = null;
  };
  async function open() {
    tell($("choose-problem"), "");
    // while the browser asks its user
    if (opening) return;
    if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder)
      return tell($("choose-problem"), "Browsers give the camera to this machine's own pages and to https only: open the page so, or choose a file.");
    opening = true;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: true });
    } catch (error) {
      return tell($("choose-problem"), WHY[error.name] ?? `The camera does not start: ${error.message}`);
    } finally {
      opening = false;
    }
    view.srcObject = stream;
    box.showModal();
    // closed before it plays
    view.play().catch(() => {});
    button.textContent = "Record";
    note.textContent = "Nothing is recorded yet.";
  }
  function record() {
    if (recorder) return recorder.stop();
    const parts = [], begun = performance.now();
    const mine = (recorder = new MediaRecorder(stream));
    mine.ondataavailable = ({ data }) => parts.push(data);
    mine.onstop = () => {
      const kept = recorder === mine;
      box.close();
      if (!kept) return;
      const kind = mine.mimeType.includes("mp4") ? "mp4" : "webm";
      choosing.send(new Blob(parts, { type: mine.mimeType }), `camera.${kind}`);
    };
    mine.start(500);
    button.textContent = "Stop and use it";
    timer = setInterval(() => {
      const seconds = (performance.now() - begun) / 1000;
      note.textContent = `${clock(seconds, true)} of ${LONGEST} s`;
      if (seconds >= LONGEST) mine.stop();
    }, 200);
  }
  $("record").addEventListener("click", open);
  button.addEventListener("click", record);
  $("camera-close").addEventListener("click", () => (recorder = null));
  box.addEventListener("close", stop);
}
