// Adding one paper from the network: progress, cancel; what came is kept.
import { call } from "./http.js";

export function importer() {
  const form = document.getElementById("add-form");
  const status = document.getElementById("add-status");
  const bar = document.getElementById("add-progress");
  const cancel = document.getElementById("add-cancel");
  let running = null;

  async function run(identifier) {
    status.textContent = "Asking …";
    bar.hidden = cancel.hidden = false;
    bar.removeAttribute("value");
    running = await call("POST", "/api/imports", { identifier });
    while (running.status === "running") {
      status.textContent = running.message || "Importing …";
      if (running.total > 0) Object.assign(bar, { max: running.total, value: running.done });
      else bar.removeAttribute("value");
      await new Promise((done) => setTimeout(done, 500));
      running = await call("GET", `/api/jobs/${running.id}`);
    }
    if (running.status !== "done") throw new Error(running.message);
    location.assign(`/papers/${encodeURIComponent(identifier.replace(/^arxiv:/i, "arXiv:"))}`);
  }

  cancel.addEventListener("click", () => running && call("DELETE", `/api/jobs/${running.id}`));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    status.classList.remove("bad");
    try {
      await run(form.elements.identifier.value.trim());
    } catch (error) {
      status.textContent = error.message;
      status.classList.add("bad");
    }
    bar.hidden = cancel.hidden = true;
    button.disabled = false;
  });

  for (const button of document.querySelectorAll("[data-import]")) {
    button.addEventListener("click", () => {
      document.getElementById("add-dialog").showModal();
      form.elements.identifier.value = button.dataset.import;
      form.requestSubmit();
    });
  }
}
