// What a reader keeps of a paper: note, tags, collections, reading status, files.
import { call, fragment } from "./http.js";

// a reading status, wherever it can be chosen
export function reading() {
  document.addEventListener("change", async (event) => {
    const select = event.target.closest("select[data-reading]");
    if (!select) return;
    const address = `/api/reading/${encodeURIComponent(select.dataset.reading)}`;
    try {
      if (select.value) await call("PUT", address, { status: select.value });
      else await call("DELETE", address);
      for (const same of document.querySelectorAll(`select[data-reading="${CSS.escape(select.dataset.reading)}"]`)) same.value = select.value;
      select.setCustomValidity("");
    } catch (error) {
      select.setCustomValidity(error.message);
      select.reportValidity();
    }
  });
}

export function desk(section) {
  const paper = encodeURIComponent(section.dataset.paper);
  note(section.querySelector(".note"), paper, section.dataset.paper);
  for (const form of section.querySelectorAll("[data-labels]")) labels(form, paper);
  files(section, paper);
}

function note(block, paper, id) {
  const [form, text, edit, status] = ["note-form", "note-text", "note-edit", "note-status"].map((name) => document.getElementById(name));
  const body = form.elements.body;
  const key = `note-${id}`;
  const show = (open) => {
    form.hidden = !open;
    text.hidden = open;
    edit.hidden = open;
    if (open) body.focus();
  };

  edit.addEventListener("click", () => {
    body.value = localStorage.getItem(key) ?? block.dataset.body;
    show(true);
  });
  body.addEventListener("input", () => localStorage.setItem(key, body.value));
  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.querySelector("[data-note-cancel]").addEventListener("click", () => {
    localStorage.removeItem(key);
    status.textContent = "";
    show(false);
    edit.focus();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      keep(await call("PUT", `/api/papers/${paper}/note`, { body: body.value, version: Number(block.dataset.version) }));
      localStorage.removeItem(key);
      status.textContent = "";
      show(false);
      edit.focus();
    } catch (error) {
      status.textContent = error.message;
      if (error.status === 409) {
        // what stands there now is shown; saving again replaces it, and it stays in the history
        keep(error.answer.current);
        text.hidden = false;
      }
    }
  });

  function keep(saved) {
    const parsed = new DOMParser().parseFromString(saved.html, "text/html");
    text.replaceChildren(...parsed.body.childNodes);
    block.dataset.version = saved.version;
    block.dataset.body = saved.body;
    edit.textContent = saved.body ? "Edit the note" : "Write a note";
  }

  // a text that was not saved is still there
  if (localStorage.getItem(key) !== null) {
    body.value = localStorage.getItem(key);
    form.hidden = false;
    text.hidden = true;
    edit.hidden = true;
  }
}

function labels(form, paper) {
  const kind = form.dataset.labels;
  const list = form.querySelector("ul");
  const names = () => [...list.querySelectorAll("[data-drop]")].map((button) => button.dataset.drop);

  async function send(wanted) {
    try {
      draw(await call("PUT", `/api/papers/${paper}/${kind}`, { names: wanted }));
    } catch (error) {
      form.elements.name.setCustomValidity(error.message);
      form.elements.name.reportValidity();
    }
  }

  function draw(kept) {
    list.replaceChildren(...kept.map((name) => {
      const link = Object.assign(document.createElement("a"), { href: `/search?q=${encodeURIComponent(`${kind.slice(0, -1)}:"${name}"`)}`, textContent: name });
      const drop = Object.assign(document.createElement("button"), { type: "button", className: "link", textContent: "×" });
      drop.dataset.drop = name;
      drop.setAttribute("aria-label", `Remove ${name}`);
      const item = document.createElement("li");
      item.append(link, drop);
      return item;
    }));
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = form.elements.name.value.trim();
    if (!name) return;
    await send([...names(), name]);
    form.elements.name.value = "";
  });
  form.elements.name.addEventListener("input", () => form.elements.name.setCustomValidity(""));
  list.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-drop]");
    if (!button) return;
    await send(names().filter((name) => name !== button.dataset.drop));
    form.elements.name.focus();
  });
}

function files(section, paper) {
  const form = document.getElementById("file-form");
  const status = document.getElementById("desk-status");
  const choose = document.getElementById("file-choose");

  async function refresh() {
    const page = await fragment(location.pathname);
    const fresh = page.map((node) => node.querySelector?.("#files") ?? (node.id === "files" ? node : null)).find(Boolean);
    if (fresh) document.getElementById("files").replaceChildren(...fresh.childNodes);
  }

  async function send(file) {
    status.textContent = `Keeping ${file.name} …`;
    status.classList.remove("bad");
    try {
      const response = await fetch(`/api/files/${paper}?file=${encodeURIComponent(file.name.slice(0, 200))}`, { method: "POST", headers: { "content-type": "application/pdf" }, body: file });
      const answer = await response.json().catch(() => ({}));
      if (!response.ok) throw new Error([answer.error, answer.remedy].filter(Boolean).join(" ") || response.statusText);
      await refresh();
      status.textContent = "";
    } catch (error) {
      status.textContent = error.message;
      status.classList.add("bad");
    }
  }

  choose.addEventListener("change", () => choose.files[0] && send(choose.files[0]).then(() => (choose.value = "")));
  section.addEventListener("dragover", (event) => event.preventDefault());
  section.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await call("POST", `/api/papers/${paper}/links`, { address: form.elements.address.value });
      form.elements.address.value = "";
      status.textContent = "";
      await refresh();
    } catch (error) {
      status.textContent = error.message;
      status.classList.add("bad");
    }
  });
  document.getElementById("files").addEventListener("click", async (event) => {
    const button = event.target.closest("[data-remove]");
    if (!button) return;
    await call("DELETE", `/api/files/${paper}?address=${encodeURIComponent(button.dataset.remove)}`);
    await refresh();
  });
}
