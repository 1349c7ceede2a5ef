/* Hover notes for links to glossary terms and references: window.subspaceNotes has the text by "page.html#anchor". */
(function () {
  "use strict";
  const note = document.createElement("div");
  note.id = "subspace-note";
  note.className = "subspace-note";
  note.setAttribute("role", "tooltip");
  note.hidden = true;
  let waiting = 0;
  let current = null; // the link whose note is shown

  function anchor(link) {
    return link.pathname.split("/").pop() + decodeURIComponent(link.hash);
  }

  function place(link) {
    const box = link.getClientRects()[0] || link.getBoundingClientRect();
    const left = Math.min(Math.max(8, box.left), document.documentElement.clientWidth - note.offsetWidth - 8);
    const below = box.bottom + note.offsetHeight + 12 < innerHeight;
    note.style.left = `${left}px`;
    note.style.top = `${below ? box.bottom + 6 : Math.max(8, box.top - note.offsetHeight - 6)}px`;
  }

  function show(link) {
    note.innerHTML = window.subspaceNotes[anchor(link)];
    note.hidden = false;
    current = link;
    link.setAttribute("aria-describedby", note.id);
    place(link);
    if (window.MathJax && window.MathJax.typesetPromise) {
      window.MathJax.typesetPromise([note]).then(() => note.hidden || place(link));
    }
  }

  function hide() {
    clearTimeout(waiting);
    note.hidden = true;
    current = null;
    document.querySelectorAll("[aria-describedby=subspace-note]").forEach((link) => link.removeAttribute("aria-describedby"));
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(note);
    for (const link of document.querySelectorAll("article a[href*='#']")) {
      if (!((window.subspaceNotes || {})[anchor(link)])) continue;
      link.addEventListener("mouseenter", () => {
        clearTimeout(waiting);
        waiting = setTimeout(() => show(link), 250);
      });
      link.addEventListener("mouseleave", hide);
      link.addEventListener("focus", () => link.matches(":focus-visible") && show(link));
      link.addEventListener("blur", hide);
    }
    document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
    addEventListener("scroll", () => current && place(current), { passive: true });
  });
})();
