// Importing a library: read it, look at what will happen, decide otherwise, do it, undo it.
import { call } from "./http.js";

export function library() {
  const form = document.getElementById("library-form");
  if (form) choose(form);
  const draft = document.getElementById("draft");
  if (draft) preview(draft);
}

function choose(form) {
  const status = document.getElementById("library-status");
  const field = form.elements.text;
  const named = document.getElementById("library-name");
  let file = null;

  async function take(chosen) {
    if (!chosen) return;
    if (chosen.size > 50_000_000) {
      status.textContent = `${chosen.name} is larger than 50 MB. Split it.`;
      return;
    }
    file = { name: chosen.name, text: await chosen.text() };
    named.textContent = chosen.name;
    // a whole library would choke the field
    field.value = file.text.length < 200_000 ? file.text : "";
    field.placeholder = file.text.length < 200_000 ? "" : `${chosen.name}, ${(chosen.size / 1e6).toFixed(1)} MB`;
    form.querySelector("[type=submit]").focus();
  }

  document.getElementById("library-file").addEventListener("change", (event) => take(event.target.files[0]));
  form.addEventListener("dragover", (event) => event.preventDefault());
  form.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files[0]) return;
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    const text = field.value.trim() ? field.value : file?.text ?? "";
    if (!text.trim()) {
      status.textContent = "There is nothing here to read yet.";
      return;
    }
    button.disabled = true;
    status.classList.remove("bad");
    status.textContent = "Reading …";
    try {
      if (/^\s*\{\s*"format":\s*"kadanoff-atlas/.test(text)) {
        const read = await call("POST", "/api/import", JSON.parse(text));
        status.textContent = `An export of an atlas: ${read.papers} papers and ${read.comments} new comments were read.`;
        button.disabled = false;
        return;
      }
      const made = await call("POST", "/api/drafts", { text, name: file?.name ?? "a pasted text" });
      location.assign(`/import/${made.id}`);
    } catch (error) {
      status.textContent = error.message;
      status.classList.add("bad");
      button.disabled = false;
    }
  });
}

function preview(section) {
  const status = document.getElementById("draft-status");
  const address = `/api/drafts/${section.dataset.draft}`;

  async function act(button, path, waiting) {
    button.disabled = true;
    status.classList.remove("bad");
    status.textContent = waiting;
    try {
      const answer = await call("POST", `${address}/${path}`);
      if (answer.kept?.length) sessionStorage.setItem("told", `Kept, because you have worked on them since: ${answer.kept.join(", ")}.`);
      location.reload();
    } catch (error) {
      status.textContent = error.message;
      status.classList.add("bad");
      button.disabled = false;
    }
  }

  const told = sessionStorage.getItem("told");
  if (told) {
    status.append(` ${told}`);
    sessionStorage.removeItem("told");
  }
  section.querySelector("[data-apply]")?.addEventListener("click", ({ currentTarget }) => act(currentTarget, "apply", "Importing …"));
  section.querySelector("[data-undo]")?.addEventListener("click", ({ currentTarget }) => act(currentTarget, "undo", "Undoing …"));
  section.querySelector("[data-resume]")?.addEventListener("click", ({ currentTarget }) => act(currentTarget, "fetch", "Asking …"));
  section.querySelector("[data-cancel]")?.addEventListener("click", async ({ currentTarget }) => {
    currentTarget.disabled = true;
    await call("DELETE", `/api/jobs/${currentTarget.dataset.cancel}`);
    location.reload();
  });
  if (section.dataset.status === "running") watch(section);

  section.addEventListener("change", async (event) => {
    const entry = event.target.closest("[data-entry]");
    if (!entry) return;
    const [action, target] = [entry.querySelector("[data-action]"), entry.querySelector("[data-target]")];
    target.hidden = action.value !== "merge";
    if (action.value === "merge" && !target.value.trim()) return target.focus();
    try {
      const made = await call("PUT", `${address}/entries/${entry.dataset.entry}`, { action: action.value, target: action.value === "merge" ? target.value.trim() : null });
      target.value = made.target ?? "";
      target.setCustomValidity("");
      entry.classList.remove("doubtful");
      const why = entry.querySelector(".why");
      why.textContent = made.action === "merge" ? `with ${made.target_title || made.target}: your decision` : "your decision";
      recount(await call("GET", address));
    } catch (error) {
      target.setCustomValidity(error.message);
      target.reportValidity();
      target.addEventListener("input", () => target.setCustomValidity(""), { once: true });
    }
    return undefined;
  });

  function recount({ counts }) {
    const total = counts.new + counts.merge + counts.fetch;
    const button = section.querySelector("[data-apply]");
    button.textContent = `Import ${total.toLocaleString("en")} work${total === 1 ? "" : "s"}`;
    button.disabled = total === 0;
  }
}

async function watch(section) {
  const [bar, said] = [section.querySelector("progress"), document.getElementById("job-status")];
  for (;;) {
    const job = await call("GET", `/api/jobs/${section.dataset.job}`);
    if (job.status !== "running") return location.reload();
    if (job.total > 0) Object.assign(bar, { max: job.total, value: job.done });
    said.textContent = job.message || "Asking …";
    await new Promise((done) => setTimeout(done, 500));
  }
}
