// Sorts a table by the column that was pressed, hides other benchmarks, and shows one language in the place of all.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const HEADS = ["Consistency with the others", "Accuracy"];
  const whole = new Map([...document.querySelectorAll("section table")].map((table) => [table, table.innerHTML]));

  const number = (value) => (value === null ? "–" : value.toFixed(1).replace("-", "−"));
  const make = (name, text, attributes = {}) => {
    const node = document.createElement(name);
    node.textContent = text;
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    return node;
  };

  function sort(head) {
    const table = head.closest("table"), row = [...head.parentNode.children], column = row.indexOf(head);
    const down = head.getAttribute("aria-sort") !== "descending" && column > 0;
    const key = (line) => {
      const cell = line.children[column];
      if (cell.dataset.value === undefined) return cell.textContent.toLowerCase();
      return cell.dataset.value === "" ? -Infinity : Number(cell.dataset.value);
    };
    const order = [...table.tBodies[0].rows].sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
    if (down) order.reverse();
    for (const each of row) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    table.tBodies[0].append(...order);
  }

  // The table of one language: its consistency with the others, and its accuracy.
  function only(table, models, language) {
    const head = make("tr", "");
    for (const [n, text] of ["Model", ...HEADS].entries()) {
      const cell = make("th", "", n ? { class: "n" } : {});
      cell.append(make("button", text, { type: "button" }));
      head.append(cell);
    }
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...Object.entries(models).map(([model, languages]) => {
      const row = make("tr", "", { "data-model": model });
      row.append(make("td", model, { class: "strong" }));
      for (const [value, low, high] of languages[language]) {
        const cell = make("td", number(value), { class: "n", "data-value": value ?? "" });
        if (low !== null) cell.append(make("span", `${number(low)} to ${number(high)}`, { class: "soft bounds" }));
        row.append(cell);
      }
      return row;
    }));
    sort(head.children[1]);
  }

  // Whether all models of a benchmark were asked in a language.
  const asked = (id, language) => Object.values(data[id]).every((own) => language in own);

  function show() {
    const { benchmark, language } = form.elements;
    for (const option of language.options) {
      option.disabled = Boolean(option.value && benchmark.value) && !asked(benchmark.value, option.value);
    }
    if (language.selectedOptions[0].disabled) language.value = "";
    for (const [table, html] of whole) {
      const section = table.closest("section"), models = data[section.id];
      const known = !language.value || asked(section.id, language.value);
      section.hidden = !known || (benchmark.value && benchmark.value !== section.id);
      table.innerHTML = html;
      if (language.value && known) only(table, models, language.value);
    }
  }

  const codes = new Set(Object.values(data).flatMap((models) => Object.values(models).flatMap(Object.keys)));
  const names = new Intl.DisplayNames(["en"], { type: "language", fallback: "code" });
  const name = (code) => { try { return names.of(code.replace("_", "-")); } catch { return code; } };
  const shown = [...codes].filter((code) => Object.keys(data).some((id) => asked(id, code)));
  for (const code of shown.sort()) form.elements.language.append(make("option", `${code}  ${name(code)}`, { value: code }));
  form.hidden = false;
  form.addEventListener("change", show);
  document.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (head && event.target.closest("button")) sort(head);
  });
})();
