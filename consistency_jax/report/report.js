"use strict";
// What the page does: tips with the numbers of a chart's marks, arrow keys in charts, copy buttons, and the questions.
(() => {
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  // ------------------------------------------------------------------------------------------------- tips and keys
  // Without this script a mark's <title> is all there is, and a browser shows it in its own way.
  for (const title of document.querySelectorAll("svg title")) {
    const mark = title.parentNode;
    mark.dataset.tip = title.textContent;
    mark.setAttribute("aria-label", title.textContent);
    mark.setAttribute("role", "img");
    title.remove();
  }

  const tip = make("div", { className: "tip", id: "tip", hidden: true });
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);

  function show(mark, x, y) {
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 12, document.documentElement.clientWidth - width - 8))}px`;
    tip.style.top = `${y - height - 12 > 4 ? y - height - 12 : y + 18}px`;
  }
  const hide = () => { tip.hidden = true; };

  const middle = (mark) => {
    const box = mark.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  let pointed = false;
  document.addEventListener("pointermove", (event) => {
    const mark = event.target.closest?.("[data-tip]");
    if (mark) show(mark, event.clientX, event.clientY); else if (pointed) hide();
    pointed = Boolean(mark); // a pointer that lies elsewhere leaves the tip of the focus alone
  });
  document.addEventListener("scroll", () => { // which focus itself may cause
    const mark = document.activeElement;
    if (mark.dataset?.tip) show(mark, ...middle(mark)); else hide();
  }, { passive: true });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  const STEPS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };

  // The mark that lies nearest in the direction of an arrow; distance across it counts three times.
  function neighbour(marks, from, [dx, dy]) {
    const [x, y] = middle(from);
    let best = null, least = Infinity;
    for (const mark of marks) {
      const [a, b] = middle(mark);
      const along = (a - x) * dx + (b - y) * dy;
      const cost = along + 3 * Math.abs((a - x) * dy + (b - y) * dx);
      if (along > 0.5 && cost < least) [best, least] = [mark, cost];
    }
    return best;
  }

  // A chart is one stop of the Tab key; its marks are walked with the arrows.
  for (const chart of document.querySelectorAll("svg.marks")) {
    const marks = [...chart.querySelectorAll("g[data-tip], circle[data-tip]")];
    marks.forEach((mark, n) => mark.setAttribute("tabindex", n ? "-1" : "0"));
    const move = (from, to) => {
      from.setAttribute("tabindex", "-1");
      to.setAttribute("tabindex", "0");
      to.focus();
    };
    chart.addEventListener("keydown", (event) => {
      const at = marks.indexOf(event.target), step = STEPS[event.key];
      if (at < 0) return;
      const ends = { Home: marks[0], End: marks[marks.length - 1] };
      const next = step
        ? neighbour(marks, event.target, step) ?? marks[at + (step[0] + step[1])]
        : ends[event.key];
      if (step || next) event.preventDefault();
      if (next) move(event.target, next);
    });
  }
  // Not on the charts themselves: an <svg> that listens to focus becomes a stop of the Tab key.
  document.addEventListener("focusin", (event) => {
    if (event.target.dataset?.tip) show(event.target, ...middle(event.target));
  });
  document.addEventListener("focusout", hide);

  // ----------------------------------------------------------------------------------------------------- copy buttons
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    const label = button.textContent;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent;
      let done = true;
      try {
        await navigator.clipboard.writeText(text);
      } catch { // no permission, or no clipboard: the old way
        const area = make("textarea", { value: text, className: "offscreen" });
        document.body.append(area);
        area.select();
        done = document.execCommand("copy");
        area.remove();
        button.focus();
      }
      button.textContent = done ? "Copied" : "Select and copy by hand";
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }

  // -------------------------------------------------------------------------------------------------------- questions
  const source = document.getElementById("questions");
  if (!source) return;
  const { languages, splits, alone } = JSON.parse(source.textContent);
  const PAGE = 20;
  const form = document.getElementById("filters");
  const list = document.getElementById("found");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const fields = form.elements;
  let found = [], shown = 0, languagesShown = [];

  const same = (a, b) => a.length === b.length && a.every((k, n) => k === b[n]);
  const credit = (first, gold) => (first.length ? first.filter((k) => gold.includes(k)).length / first.length : 0);
  const alike = (answers, side) => answers.every((answer) => same(answer[side], answers[0][side]));
  const BEFORE = 2, AFTER = 3;
  const sides = alone ? [AFTER] : [BEFORE, AFTER];
  const HEADS = alone ? { [AFTER]: "Answer" } : { [BEFORE]: "Before", [AFTER]: "After" };

  // What became of the answers of some languages to an item.
  function fate([, , gold, answers], places) {
    const own = places.map((place) => answers[place]).filter(Boolean);
    const gains = own.map((a) => credit(a[AFTER], gold) - credit(a[BEFORE], gold));
    const told = { changed: own.some((a) => !same(a[BEFORE], a[AFTER])) };
    told.unchanged = !told.changed;
    told.fixed = gains.some((gain) => gain > 0);
    told.broken = gains.some((gain) => gain < 0);
    if (own.length > 1) {
      const [before, after] = [alike(own, BEFORE), alike(own, AFTER)];
      Object.assign(told, { agree: after, disagree: !after, joined: after && !before, parted: before && !after });
    }
    return told;
  }

  const plain = (text) => text.normalize("NFKC").toLowerCase();
  const haystacks = new WeakMap();
  function haystack(item) {
    if (!haystacks.has(item)) {
      const texts = item[3].filter(Boolean).flatMap((a) => [a[0], ...Object.values(a[1]), ...a.slice(4)]);
      haystacks.set(item, plain([item[0], item[1], ...texts].join("\n")));
    }
    return haystacks.get(item);
  }

  function option(value, text) {
    return make("option", { value, textContent: text });
  }

  function fillLanguages() {
    const own = splits[fields.split.value].languages;
    for (const [field, any] of [[fields.one, "all"], [fields.other, "all"]]) {
      const chosen = field.value;
      field.replaceChildren(option("", any), ...own.map((code) => option(code, `${languages[code][0]} (${code})`)));
      field.value = own.includes(chosen) ? chosen : "";
    }
  }

  function search() {
    const split = splits[fields.split.value];
    const chosen = [...new Set([fields.one.value, fields.other.value])].filter(Boolean);
    const places = chosen.map((code) => split.languages.indexOf(code));
    languagesShown = places.length ? places : split.languages.map((_, place) => place);
    const words = plain(fields.words.value).split(/\s+/).filter(Boolean);
    const wanted = [fields.answers?.value, fields.agreement.value].filter(Boolean);
    found = split.items.filter((item) => {
      if (!places.every((place) => item[3][place])) return false;
      if (wanted.length) {
        const told = fate(item, languagesShown);
        if (!wanted.every((name) => told[name])) return false;
      }
      return words.every((word) => haystack(item).includes(word));
    });
    shown = 0;
    list.replaceChildren();
    const number = (n) => n.toLocaleString("en");
    count.textContent = `${number(found.length)} of ${number(split.items.length)} questions`;
    next();
  }

  const MARKS = { right: "✓", wrong: "✗", tied: "=" };
  function said(answer, side, gold, code, dir) {
    const cell = make("td", { className: side === BEFORE ? "before" : "after", dir });
    if (gold.length) {
      const name = { 0: "wrong", 1: "right" }[credit(answer[side], gold)] ?? "tied";
      const mark = make("span", { className: `sign ${name}`, title: name, textContent: MARKS[name] });
      mark.setAttribute("role", "img");
      mark.setAttribute("aria-label", name);
      cell.append(mark);
    }
    const text = answer[side].map((k) => answer[1][k]).join(" / ");
    cell.append(make("bdi", { lang: code, dir: "auto", textContent: text }));
    const own = answer[side + 2]; // what the model wrote itself
    if (own !== undefined) cell.append(make("bdi", { className: "own", lang: code, dir: "auto", textContent: own }));
    return cell;
  }

  function card(item, split) {
    const [id, group, gold, answers] = item;
    const freeText = answers.some((answer) => answer && answer.length > 4);
    const rows = languagesShown.filter((place) => answers[place]).map((place) => {
      const code = split.languages[place], answer = answers[place], [name, dir] = languages[code];
      return make("tr", { className: same(answer[BEFORE], answer[AFTER]) ? "" : "moved" },
        make("td", { className: "l", textContent: name }),
        make("td", { className: "q", lang: code, dir, textContent: answer[0] }),
        ...sides.map((side) => said(answer, side, gold, code, dir)));
    });
    const present = answers.filter(Boolean).length, changed = answers.filter((a) => a && !same(a[BEFORE], a[AFTER]));
    const place = split.languages.indexOf(split.anchor);
    const named = answers[place] || answers.find(Boolean);
    const title = gold.map((k) => named?.[1][k]).join(" / ") || "Question";
    const several = new Set(answers.filter(Boolean).map((a) => a[AFTER].join())).size;
    const what = alone
      ? `${several > 1 ? `${several} different answers` : "the same answer"} in ${present} languages`
      : `changed in ${changed.length} of ${present} languages`;
    const note = `${id}${group ? ` · ${group}` : ""} · ${what}`;
    const head = (text, name = "") => make("th", { textContent: text, className: name, scope: "col" });
    const tail = freeText ? ", and in its own words" : "";
    return make("article", { className: "card scroll example", tabIndex: -1 },
      make("h3", {}, make("bdi", { textContent: title }), make("span", { className: "id", textContent: note })),
      make("table", {},
        make("thead", {}, make("tr", {}, head("Language", "l"), head("Question", "q"), ...sides.map((side) => head(`${HEADS[side]}${tail}`)))),
        make("tbody", {}, ...rows)));
  }

  function next() {
    const split = splits[fields.split.value];
    const part = found.slice(shown, shown + PAGE);
    list.append(...part.map((item) => card(item, split)));
    shown += part.length;
    more.hidden = shown >= found.length;
    more.textContent = `Show ${Math.min(PAGE, found.length - shown)} more of ${(found.length - shown).toLocaleString("en")}`;
  }

  let waiting;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(search, 120); };
  form.addEventListener("input", (event) => { if (event.target === fields.words) soon(); });
  form.addEventListener("change", (event) => {
    if (event.target === fields.split) fillLanguages();
    search();
  });
  form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
  form.addEventListener("reset", () => setTimeout(() => { fillLanguages(); search(); }));
  more.addEventListener("click", () => {
    const first = shown;
    next();
    list.children[first]?.focus(); // the keyboard goes on where reading does
  });
  splits.forEach((split, n) => fields.split.append(option(n, split.name)));
  fields.split.closest("label").hidden = splits.length < 2;
  fillLanguages();
  search();
})();
