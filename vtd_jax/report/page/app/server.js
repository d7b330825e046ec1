// Requests to the server: every one has the token of the page's address.
const server = (() => {
  const token = new URLSearchParams(location.search).get("token") || "";
  const address = (path) => `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;
  const SILENT = "The server does not answer. Is it still running?";

  function failure(status, text) {
    let told = {};
    try {
      told = JSON.parse(text);
    } catch {
      told = { error: text.trim().split("\n")[0] || `The server answered ${status}.` };
    }
    return Object.assign(new Error(told.error), { status, encode: told.encode });
  }

  // a response, or an error of one line
  async function ask(path, body, { method = body === undefined ? "GET" : "POST", signal } = {}) {
    const settings = { method, signal, headers: { "X-VTD-Token": token } };
    if (body !== undefined) settings.body = JSON.stringify(body);
    const response = await fetch(path, settings).catch((error) => {
      throw error.name === "AbortError" ? error : new Error(SILENT);
    });
    if (!response.ok) throw failure(response.status, await response.text());
    return response;
  }
  const json = async (...given) => (await ask(...given)).json();

  // `fetch` has no progress of what it sends
  function upload(file, name, progress, signal) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", `/upload?name=${encodeURIComponent(name)}`);
      request.setRequestHeader("X-VTD-Token", token);
      request.upload.onprogress = (event) => progress(event.loaded, event.total);
      request.onload = () =>
        request.status === 201 ? resolve(JSON.parse(request.responseText)) : reject(failure(request.status, request.responseText));
      request.onerror = () => reject(new Error(SILENT));
      request.onabort = () => reject(new DOMException("", "AbortError"));
      signal.addEventListener("abort", () => request.abort());
      request.send(file);
    });
  }

  // calls `on[event](data)` until the last event, or `on.broken()`
  function follow(job, on) {
    const stream = new EventSource(address(`/encode/${job}/events`));
    for (const event of Object.keys(on))
      stream.addEventListener(event, ({ data }) => {
        if (["done", "failed", "cancelled"].includes(event)) stream.close();
        on[event](JSON.parse(data));
      });
    // it would connect again by itself, but not to a server that has forgotten the job
    stream.onerror = () => {
      stream.close();
      on.broken();
    };
    return () => stream.close();
  }
  return { ask, json, upload, follow, address, SILENT };
})();
