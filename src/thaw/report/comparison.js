"use strict";
// All of it is comfort: without scripts the page says the same, sections fold, and tables stand in their first order.

const UNITS = { MFLOP: 1e6, GFLOP: 1e9, TFLOP: 1e12, PFLOP: 1e15 };

/** The number that a cell begins with ("+1.2", "93.0 to 95.8", "1,234 MiB", "5.6 TFLOP"); NaN if there is none. */
function readNumber(text) {
  const found = text.trim().replace(/\u2212/g, "-").match(/^[±+]?\s*(-?[\d,]*\.?\d+(?:e[-+]?\d+)?)\s*([A-Z]FLOP)?/);
  return found ? Number(found[1].replace(/,/g, "")) * (UNITS[found[2]] ?? 1) : NaN;
}

/** Reorders the rows: a column of mostly numbers by number, others as text; cells without a number are last. */
function sortRows(body, column, sign) {
  const rows = [...body.rows].map((row) => ({ row, text: row.cells[column].textContent.trim() }));
  for (const entry of rows) entry.number = readNumber(entry.text);
  const numeric = rows.filter((entry) => !Number.isNaN(entry.number)).length * 2 > rows.length;
  const words = new Intl.Collator(undefined, { numeric: true });
  rows.sort((a, b) => {
    if (!numeric) return sign * words.compare(a.text, b.text);
    const missing = Number.isNaN(a.number) - Number.isNaN(b.number);
    return missing || (Number.isNaN(a.number) ? 0 : sign * (a.number - b.number));
  });
  body.append(...rows.map((entry) => entry.row));
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const descending = head.ariaSort === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.ariaSort = descending ? "descending" : "ascending";
      sortRows(table.tBodies[0], column, descending ? -1 : 1);
    });
  });
}

/** Shows a tile's image large; arrow keys go to its neighbours, Escape closes (the browser does that). */
function makeEnlargeable(dialog) {
  const [image, caption, close] = ["img", "p", "button"].map((name) => dialog.querySelector(name));
  let shown = null;
  const show = (frame) => {
    shown = frame;
    image.src = frame.querySelector("img").src;
    image.alt = frame.querySelector("img").alt;
    caption.replaceChildren(...frame.parentElement.querySelector("figcaption").cloneNode(true).childNodes);
  };
  for (const frame of document.querySelectorAll("button.frame")) {
    frame.addEventListener("click", () => { show(frame); dialog.showModal(); });
  }
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    const frames = [...shown.closest(".tiles").querySelectorAll("button.frame")];
    show(frames[(frames.indexOf(shown) + step + frames.length) % frames.length]);
  });
  dialog.addEventListener("close", () => shown.focus());
  dialog.addEventListener("click", (event) => { if ([dialog, close].includes(event.target)) dialog.close(); });
}

/** Opens the section that the address names. Today's browsers do so by themselves. */
function openTarget() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const details = target && target.closest("details");
  if (details && !details.open) { details.open = true; target.scrollIntoView(); }
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
makeEnlargeable(document.querySelector("dialog"));
addEventListener("hashchange", openTarget);
openTarget();
