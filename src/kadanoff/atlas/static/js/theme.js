// Before the first paint: the theme the reader has chosen, else the system's.
(() => {
  const root = document.documentElement;
  root.classList.add("scripted");
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
})();
