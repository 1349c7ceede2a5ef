/* Folds the code of a chapter, which is there to be run, under one button below the title. */
(function () {
  "use strict";
  const KEY = "subspace-code";
  const root = document.documentElement;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "code-button";

  function show(open) {
    root.classList.toggle("code-folded", !open);
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? "Hide the code" : "Show the code";
  }

  function kept() {
    try {
      return localStorage.getItem(KEY) === "open";
    } catch (error) {
      return false; // a page from a folder may have no storage
    }
  }

  button.addEventListener("click", () => {
    const open = root.classList.contains("code-folded");
    show(open);
    try {
      localStorage.setItem(KEY, open ? "open" : "folded");
    } catch (error) {
      /* it is forgotten with the page */
    }
  });
  show(kept());
  const title = document.querySelector(".bd-article h1");
  if (title) title.after(button);
})();
