// Adding papers, and the reading list.
import { call } from "./http.js";

export function importer() {
  const form = document.getElementById("add-form");
  const status = document.getElementById("add-status");

  async function run(identifier, said) {
    said("Asking …");
    let job = await call("POST", "/api/imports", { identifier });
    while (job.status === "running") {
      said(job.message || "Importing …");
      await new Promise((done) => setTimeout(done, 500));
      job = await call("GET", `/api/jobs/${job.id}`);
    }
    if (job.status !== "done") throw new Error(job.message);
    location.assign(`/papers/${encodeURIComponent(identifier.replace(/^arxiv:/i, "arXiv:"))}`);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    status.classList.remove("bad");
    try {
      await run(form.elements.identifier.value.trim(), (text) => (status.textContent = text));
    } catch (error) {
      status.textContent = error.message;
      status.classList.add("bad");
    }
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

export function reading() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-reading]");
    if (!button) return;
    const listed = button.getAttribute("aria-pressed") === "true";
    try {
      await call(listed ? "DELETE" : "PUT", `/api/reading/${encodeURIComponent(button.dataset.reading)}`);
      for (const same of document.querySelectorAll(`[data-reading="${CSS.escape(button.dataset.reading)}"]`)) same.setAttribute("aria-pressed", String(!listed));
    } catch (error) {
      button.textContent = error.message;
    }
  });
}
