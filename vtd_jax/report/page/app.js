(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const token = new URLSearchParams(location.search).get("token") || "";
  const address = (path) => `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
  const lines = (id) => $(id).value.split("\n").map((line) => line.trim()).filter(Boolean);
  const say = (text) => ($("said").textContent = text);
  let video = null, serial = 0, job = null, stream = null;

  async function ask(path, method = "GET", body = undefined) {
    const response = await fetch(path, { method, body, headers: { "X-VTD-Token": token } });
    const told = response.status === 204 ? {} : await response.json();
    if (!response.ok) throw Object.assign(new Error(told.error), { encode: told.encode });
    return told;
  }
  const rows = (id, texts) =>
    $(id).replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));

  async function answer() {
    const labels = lines("labels"), words = lines("vocabulary");
    if (!video || job || !labels.length) return;
    const mine = ++serial, frames = Number($("frames").value), temperature = Number($("temperature").value);
    const asked = { serial: mine, video, labels, frames, temperature, vocabulary: words.length ? words : null };
    try {
      const { model } = await ask("/answer", "POST", JSON.stringify(asked));
      if (mine !== serial) return;
      rows("scores", model.order.map((k) => `${labels[k]}: ${(100 * model.scores[k]).toFixed(1)} %`));
      rows("words", model.frames.map(({ words }) => words[0][0]));
      say(`${model.label}, ${(100 * model.score).toFixed(1)} %`);
    } catch (error) {
      if (error.encode) encode();
      else if (mine === serial) say(error.message);
    }
  }

  async function encode() {
    if (stream) stream.close();
    try {
      job = (await ask("/encode", "POST", JSON.stringify({ video, frames: Number($("frames").value) }))).job;
    } catch (error) {
      return say(error.message);
    }
    $("cancel").disabled = false;
    stream = new EventSource(address(`/encode/${job}/events`));
    const over = (text) => {
      stream.close();
      job = null;
      $("cancel").disabled = true;
      say(text);
    };
    const told = (event) => JSON.parse(event.data);
    stream.addEventListener("queued", (event) => say(`${told(event).ahead} before this one`));
    stream.addEventListener("progress", (event) => say(`${told(event).stage}: ${told(event).done} of ${told(event).total}`));
    stream.addEventListener("done", () => (over("encoded"), answer()));
    stream.addEventListener("failed", (event) => over(told(event).error));
    stream.addEventListener("cancelled", () => over("cancelled"));
  }

  $("file").addEventListener("change", async () => {
    const [file] = $("file").files;
    if (!file) return;
    try {
      video = (await ask(`/upload?name=${encodeURIComponent(file.name)}`, "POST", file)).id;
      encode();
    } catch (error) {
      say(error.message);
    }
  });
  $("cancel").addEventListener("click", () => job && ask(`/encode/${job}`, "DELETE"));
  ["labels", "vocabulary", "temperature"].forEach((id) => $(id).addEventListener("input", answer));
  $("frames").addEventListener("change", () => video && encode());
  if ($("folder"))
    ask("/videos").then(({ videos }) => {
      $("folder").append(...videos.map(({ id, name }) => Object.assign(document.createElement("option"), { value: id, textContent: name })));
      $("folder").addEventListener("change", () => (video = $("folder").value) && encode());
    });
})();
