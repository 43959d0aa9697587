// What the page shows is in its address: each control reads it there and writes it there.
const listeners = new Set();

export const state = {
  get: (name) => new URLSearchParams(location.search).get(name) ?? "",

  // push: a step that Back takes back; otherwise the present entry is rewritten
  set(changes, push = false) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === "" || value === null || value === undefined || value === false) query.delete(name);
      else query.set(name, value === true ? "1" : value);
    }
    const text = query.toString();
    const address = `${location.pathname}${text ? `?${text}` : ""}${location.hash}`;
    history[push ? "pushState" : "replaceState"](null, "", address);
    for (const told of listeners) told();
  },

  onChange: (told) => listeners.add(told),
};

addEventListener("popstate", () => {
  for (const told of listeners) told();
});

// Whether a paper is among those wanted: the same rule for the map and for the table.
export function wanted({ kind, year, study, listed }) {
  const [from, to] = [state.get("from"), state.get("to")];
  const chosen = state.get("kind");
  if (kind === "current") return true;
  if (kind !== "near" && chosen && chosen !== kind) return false;
  if (kind === "near" && (!state.get("near") || chosen)) return false;
  if (/^\d{4}$/.test(from) && !(year && year >= Number(from))) return false;
  if (/^\d{4}$/.test(to) && !(year && year <= Number(to))) return false;
  return !(state.get("study") && !study) && !(state.get("mine") && !listed);
}
