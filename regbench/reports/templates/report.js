/* Sorting and filtering of the report's tables. Without it the report says the same. */
"use strict";
(function () {
  var collator = new Intl.Collator(undefined, { numeric: true });

  function keyOf(cell) {
    if (!cell) return null;
    var text = cell.textContent.trim();
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    if (text === "" || text === "-") return null;
    var number = /^[+\-\u2212<]?\d/.test(text) ? parseFloat(text.replace("\u2212", "-").replace("<", "")) : NaN;
    return isNaN(number) ? text : number;
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return collator.compare(String(a), String(b));
  }

  function sortBy(table, column, header) {
    var direction = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    table.querySelectorAll("thead th").forEach(function (th) { th.removeAttribute("aria-sort"); });
    header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    var body = table.tBodies[0];
    var rows = Array.prototype.map.call(body.rows, function (row) { return [keyOf(row.cells[column]), row]; });
    rows.sort(function (a, b) {
      if (a[0] === null || b[0] === null) return (a[0] === null) - (b[0] === null);
      return direction * compare(a[0], b[0]);
    });
    rows.forEach(function (pair) { body.appendChild(pair[1]); });
  }

  document.querySelectorAll("table").forEach(function (table) {
    if (!table.tHead || table.tHead.rows.length !== 1 || !table.tBodies.length || table.tBodies[0].rows.length < 2) return;
    if (table.querySelector("[colspan], [rowspan]")) return;
    Array.prototype.forEach.call(table.tHead.rows[0].cells, function (header, column) {
      var button = document.createElement("button");
      button.type = "button";
      button.title = "Sort by this column";
      while (header.firstChild) button.appendChild(header.firstChild);
      header.appendChild(button);
      button.addEventListener("click", function () { sortBy(table, column, header); });
    });
  });

  document.querySelectorAll("[data-filter]").forEach(function (section) {
    var rows = section.querySelectorAll("tbody tr");
    if (rows.length < 4) return;
    var box = document.createElement("div");
    var label = document.createElement("label");
    var input = document.createElement("input");
    var told = document.createElement("span");
    box.className = "filter";
    input.type = "search";
    input.placeholder = section.dataset.filter;
    label.append("Show rows with ", input);
    told.className = "soft";
    told.setAttribute("role", "status");
    box.append(label, told);
    section.insertBefore(box, section.querySelector("h3"));
    input.addEventListener("input", function () {
      var wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      var shown = 0;
      rows.forEach(function (row) {
        var text = (row.textContent + " " + (row.closest("table").dataset.title || "")).toLowerCase();
        row.hidden = !wanted.every(function (word) { return text.includes(word); });
        if (!row.hidden) shown += 1;
        var folded = row.closest("details");
        if (wanted.length && !row.hidden && folded) folded.open = true;
      });
      told.textContent = wanted.length ? shown + " of " + rows.length + " rows" : "";
    });
  });

  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details").forEach(function (item) { item.open = true; });
  });
})();
