// What is shown, as files.
{
  const menu = $("menu"), box = $("python-box"), lines = $("python-lines");
  const asked = () => JSON.parse(JSON.stringify(answers.last().asked));

  function save(blob, name) {
    const link = document.createElement("a"), address = URL.createObjectURL(blob);
    link.href = address;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  }
  const stem = () => memory.state.name.split("/").at(-1).replace(/\.[^.]*$/, "") || "video";
  async function download(kind, by) {
    const rows = by.split(" ")[Number(Boolean(asked().window))], path = kind === "csv" ? `/csv?by=${rows}` : `/${kind}`;
    // the video may be another one when it comes
    const name = stem();
    try {
      const blob = await (await server.ask(path, asked())).blob();
      save(blob, `${name}${rows && `-${rows}s`}.${kind === "report" ? "html" : kind}`);
    } catch (error) {
      failed(error);
    }
  }
  function failed(error) {
    dock.problem(error.encode ? "The video has to be encoded once more; then download again." : error.message);
    if (error.encode) answers.encodeAgain();
  }
  async function python() {
    try {
      lines.textContent = await (await server.ask("/python", asked())).text();
      $("python-copy").textContent = "Copy";
      box.showModal();
    } catch (error) {
      failed(error);
    }
  }
  // in another site's frame no bar shows the address
  async function link(button) {
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(memory.link());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed: copy it from the address bar";
    }
    tell($("said"), button.textContent);
    setTimeout(() => (button.textContent = before), 4000);
  }
  async function copy() {
    try {
      await navigator.clipboard.writeText(lines.textContent);
    } catch {
      // without https there is no clipboard, but a selection
      getSelection().selectAllChildren(lines);
      return ($("python-copy").textContent = "Selected: press Ctrl-C");
    }
    $("python-copy").textContent = "Copied";
  }
  menu.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "link") return link(button);
    menu.open = false;
    menu.querySelector("summary").focus();
    button.id === "python" ? python() : download(button.dataset.download, button.dataset.by ?? "");
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  addEventListener("click", (event) => menu.contains(event.target) || (menu.open = false));
  $("python-copy").addEventListener("click", copy);
  $("python-file").addEventListener("click", () => save(new Blob([lines.textContent], { type: "text/x-python" }), `${stem()}.py`));
}
