/* A link to a run opens the fold that holds its row. */
(function () {
  "use strict";
  function open() {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const fold = row && row.closest("details");
    if (fold && !fold.open) {
      fold.open = true;
      row.scrollIntoView();
    }
  }
  document.addEventListener("DOMContentLoaded", open);
  addEventListener("hashchange", open);
})();
