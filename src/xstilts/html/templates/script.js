"use strict";
// Sorts tables by a column, groups languages, and opens what a link leads into. Without it the page shows all numbers.
const groupMenu = document.getElementById("group");
const rowsOf = (body) => [...body.rows].filter((row) => !row.classList.contains("group"));

const UNITS = { MB: 1, GB: 1e3 };

function cellValue(row, column) {
  const text = row.cells[column].textContent.trim();
  const clock = /^(?:(\d+):)?(\d+):(\d\d)$/.exec(text);
  if (clock) return { text, number: (clock[1] || 0) * 3600 + clock[2] * 60 + Number(clock[3]) };
  const found = /^[[<]?([+-]?\d[\d,]*(?:\.\d+)?)(?!\w)(?: ([MG]B))?/.exec(text); // also of "[+1.2, +3.4]" and "<0.001"
  return { text, number: found && parseFloat(found[1].replace(/,/g, "")) * (UNITS[found[2]] || 1) };
}

function compare(a, b) {
  if (a.number !== null && b.number !== null) return a.number - b.number;
  if (a.number !== null || b.number !== null) return a.number !== null ? -1 : 1;
  return a.text.localeCompare(b.text);
}

function sortBy(head) {
  const column = head.cellIndex;
  const table = head.closest("table");
  const ascending = head.getAttribute("aria-sort") === "descending" || (head.getAttribute("aria-sort") === "none" && column === 0);
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const body = table.tBodies[table.tBodies.length - 1];
  const rows = rowsOf(body).map((row) => [cellValue(row, column), row]);
  const missing = (value) => value.text === "-";
  rows.sort(([a], [b]) => missing(a) - missing(b) || (ascending ? compare(a, b) : compare(b, a)));
  body.append(...rows.map(([, row]) => row));
  group(table);
}

function group(table) {
  const by = groupMenu && groupMenu.value;
  const body = table.tBodies[table.tBodies.length - 1];
  for (const old of body.querySelectorAll(".group")) old.remove();
  if (!by || !table.classList.contains("languages")) return;
  const groups = new Map();
  for (const row of rowsOf(body)) {
    const name = row.dataset[by];
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  for (const name of [...groups.keys()].sort()) {
    const head = document.createElement("tr");
    head.className = "group";
    const cell = document.createElement("th");
    cell.scope = "rowgroup";
    cell.colSpan = table.tHead.rows[0].cells.length;
    cell.textContent = `${name} (${groups.get(name).length})`;
    head.append(cell);
    body.append(head, ...groups.get(name));
  }
}

async function unpack(box) {
  const packed = box.querySelector(":scope > template");
  if (!packed) return;
  const bytes = Uint8Array.from(atob(packed.content.textContent), (letter) => letter.charCodeAt(0));
  packed.remove();
  const html = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  box.insertAdjacentHTML("beforeend", await new Response(html).text());
}

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let box = target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
  target.scrollIntoView({ block: "center", inline: "nearest" });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("thead button");
  if (button) sortBy(button.closest("th"));
});
if (groupMenu) groupMenu.addEventListener("change", () => document.querySelectorAll("table.languages").forEach(group));
document.addEventListener("toggle", (event) => unpack(event.target), true); // curves and examples of a large study
window.addEventListener("hashchange", openTarget);
openTarget();
