"use strict";
// Sorting and filtering of the table of layers. Everything is in the page without it.
(() => {
  const table = document.getElementById("layers");
  if (!table) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const tools = document.getElementById("tools");
  const search = document.getElementById("filter");
  const count = document.getElementById("count");

  function sort(column, ascending) {
    const name = column === 0;
    const value = (row) => (name ? row.dataset.name : Number(row.cells[column].dataset.value));
    const order = rows.map((row, index) => [value(row), index, row]);
    order.sort((a, b) => {
      const found = name ? a[0].localeCompare(b[0]) : a[0] - b[0];
      return (ascending ? found : -found) || a[1] - b[1];
    });
    body.append(...order.map((entry) => entry[2]));
    heads.forEach((head, index) => {
      if (index === column) head.ariaSort = ascending ? "ascending" : "descending";
      else head.removeAttribute("aria-sort");
    });
  }

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.title = "sort";
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const now = head.ariaSort;
      sort(column, now ? now === "descending" : column === 0);
    });
  });

  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
      if (!row.hidden) shown += 1;
    }
    count.textContent = `${shown} of ${rows.length} layers`;
  });
  tools.hidden = false;
})();
