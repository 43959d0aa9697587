// Comments: written without leaving the page, never lost (a draft stays in this browser).
import { call, fragment } from "./http.js";

export function comments(section) {
  const paper = encodeURIComponent(section.dataset.paper);
  const slot = document.getElementById("thread-slot");
  const main = document.getElementById("write");

  async function reload(id) {
    slot.replaceChildren(...(await fragment(`/papers/${paper}/thread`)));
    if (id) document.getElementById(`comment-${id}`)?.scrollIntoView({ block: "nearest" });
  }

  function equip(form, draftKey, send, start = "") {
    const body = form.elements.body;
    const status = form.querySelector(".status");
    body.value = localStorage.getItem(draftKey) ?? start;
    body.addEventListener("input", () => (body.value === start ? localStorage.removeItem(draftKey) : localStorage.setItem(draftKey, body.value)));
    body.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    if (form.elements.author) form.elements.author.value = localStorage.getItem("name") ?? "";
    const preview = form.querySelector(".preview");
    form.querySelector("[data-preview]").addEventListener("click", async ({ currentTarget: button }) => {
      const showing = !preview.hidden;
      try {
        if (!showing) {
          const { html } = await call("POST", "/api/preview", { body: body.value });
          const parsed = new DOMParser().parseFromString(html, "text/html");
          preview.replaceChildren(...parsed.body.childNodes);
        }
        preview.hidden = showing;
        body.hidden = !showing;
        button.textContent = showing ? "Preview" : "Write";
      } catch (error) {
        status.textContent = error.message;
      }
    });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("[type=submit]");
      button.disabled = true;
      status.textContent = "";
      try {
        if (form.elements.author) localStorage.setItem("name", form.elements.author.value);
        const place = Number(form.elements.page?.value) || null;
        const kept = await send(body.value, form.elements.author?.value ?? localStorage.getItem("name") ?? "", place);
        if (form.elements.page) form.elements.page.value = "";
        localStorage.removeItem(draftKey);
        body.value = "";
        body.hidden = false;
        preview.hidden = true;
        form.querySelector("[data-preview]").textContent = "Preview";
        await reload(kept.id);
      } catch (error) {
        status.textContent = error.message;
        status.classList.add("bad");
        if (error.status === 409) conflict(form, error.answer.current);
      }
      button.disabled = false;
    });
  }

  function conflict(form, current) {
    const theirs = document.createElement("p");
    theirs.className = "theirs";
    theirs.textContent = current.deleted ? "(deleted)" : current.body;
    form.querySelector(".theirs")?.remove();
    form.querySelector(".status").after(theirs);
    form.dataset.version = current.version;
  }

  function small(article, label, key, send, start) {
    article.querySelector("form")?.remove();
    const form = main.cloneNode(true);
    form.removeAttribute("id");
    form.querySelector("textarea").id = `body-${key}`;
    form.querySelector("label").htmlFor = `body-${key}`;
    form.querySelector("label").textContent = label;
    form.querySelector("textarea").placeholder = "";
    form.querySelector("textarea").hidden = false;
    form.querySelector(".preview").hidden = true;
    form.querySelector(".status").textContent = "";
    form.querySelector(".theirs")?.remove();
    form.querySelector("[data-preview]").textContent = "Preview";
    for (const extra of form.querySelectorAll("#author, label[for=author], .page-no")) extra.remove();
    form.querySelector("[type=submit]").textContent = label.startsWith("Edit") ? "Save" : "Reply";
    form.querySelector("[type=submit]").disabled = false;
    const cancel = document.createElement("button");
    cancel.type = "button";
    cancel.textContent = "Cancel";
    cancel.addEventListener("click", () => {
      localStorage.removeItem(key);
      form.remove();
    });
    form.querySelector("[data-preview]").before(cancel);
    article.append(form);
    equip(form, key, (text, name) => send(text, name, form), start);
    form.elements.body.focus();
  }

  slot.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-act]");
    if (!button) return;
    const article = button.closest("article");
    const { comment: id, version, body } = article.dataset;
    if (button.dataset.act === "reply") {
      small(article, "Your reply", `reply-${id}`, (text, author) => call("POST", `/api/papers/${paper}/comments`, { body: text, author, parent: Number(id) }), "");
    } else if (button.dataset.act === "edit") {
      small(article, "Edit your comment", `edit-${id}`, (text, _, form) => call("PUT", `/api/comments/${id}`, { body: text, version: Number(form.dataset.version ?? version) }), body);
    } else if (!button.classList.contains("sure")) {
      button.classList.add("sure");
      button.textContent = "Really delete?";
      button.addEventListener("blur", () => { button.classList.remove("sure"); button.textContent = "Delete"; }, { once: true });
    } else {
      try {
        await call("DELETE", `/api/comments/${id}?version=${version}`);
        await reload();
      } catch (error) {
        button.textContent = error.message;
        if (error.status === 409) await reload();
      }
    }
  });

  equip(main, `draft-${section.dataset.paper}`, (body, author, page) => call("POST", `/api/papers/${paper}/comments`, { body, author, page }));
}
