// Studies: start, watch, cancel. The run is the server's; this only looks at it.
import { call, fragment } from "./http.js";

export function studies(section) {
  const rest = (ms) => new Promise((done) => setTimeout(done, ms));

  async function refresh(panel) {
    const [fresh] = (await fragment(`/studies/${encodeURIComponent(panel.dataset.study)}/panel`)).filter((node) => node.nodeType === 1);
    const held = panel.contains(document.activeElement);
    panel.replaceWith(fresh);
    if (held) fresh.querySelector("button")?.focus();
    watch(fresh);
  }

  async function watch(panel) {
    if (panel.dataset.status !== "running") return;
    const bar = panel.querySelector("progress");
    const said = panel.querySelector(".status");
    while (panel.isConnected) {
      try {
        const job = await call("GET", `/api/jobs/${panel.dataset.job}`);
        if (job.status !== "running") return refresh(panel);
        if (job.total > 0) {
          bar.max = job.total;
          bar.value = job.done;
        }
        const text = job.message || (job.total ? `${Math.round((100 * job.done) / job.total)} %` : "Running");
        if (said.textContent !== text) said.textContent = text;
      } catch (error) {
        said.textContent = error.message;
        await rest(2000);
      }
      await rest(400);
    }
  }

  section.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-run], [data-cancel]");
    if (!button) return;
    const panel = button.closest(".study-panel");
    button.disabled = true;
    try {
      if (button.dataset.run) await call("POST", `/api/studies/${encodeURIComponent(button.dataset.run)}/runs`);
      else await call("DELETE", `/api/jobs/${button.dataset.cancel}`);
      await refresh(panel);
    } catch (error) {
      button.disabled = false;
      panel.querySelector(".status").textContent = error.message;
    }
  });

  for (const panel of section.querySelectorAll(".study-panel")) watch(panel);
}
