/* The page of a pack's lenses: a list that is sorted and searched, pictures of how metrics are spread, a card.

   All text comes out of the JSON block and goes into text nodes, never into markup: a pack may name a concept anything. */
(() => {
  const data = embedded();
  const svg = (tag, properties) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value);
    return element;
  };
  const AT_ONCE = 200;
  const BINS = 20;
  const count = data.ids.length;
  const said = (value, column) => (value === null ? "—" : column === 0 ? value.toLocaleString("en") : value.toFixed(3));

  $("headline").textContent = data.name;
  $("byline").textContent = `${count.toLocaleString("en")} lenses, each as it was measured. Choose one to see its card.`;

  // How metrics are spread.

  const table = (heads, rows) => make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell, place) =>
      place ? make("td", {}, String(cell)) : make("th", { scope: "row" }, String(cell)))))));

  const histogram = (name, values, low, high) => {
    const bins = Array(BINS).fill(0);
    for (const value of values) bins[Math.min(BINS - 1, Math.max(0, Math.floor((BINS * (value - low)) / (high - low))))]++;
    const most = Math.max(1, ...bins);
    const picture = svg("svg", { viewBox: `0 0 ${BINS} 1`, preserveAspectRatio: "none", role: "img" });
    const ordered = [...values].sort((a, b) => a - b);
    const at = (share) => ordered[Math.min(ordered.length - 1, Math.floor(share * ordered.length))];
    const digits = (value) => (Number.isInteger(value) ? String(value) : value.toFixed(3));
    const words = `median ${digits(at(0.5))}, middle 80 % from ${digits(at(0.1))} to ${digits(at(0.9))}, ${values.length} lenses`;
    picture.setAttribute("aria-label", `${name}: ${words}`);
    bins.forEach((n, bin) => n && picture.append(svg("rect", { x: bin + 0.06, width: 0.88, y: 1 - n / most, height: n / most })));
    return make("figure", { className: "picture" },
      make("figcaption", {}, make("strong", {}, name), make("br"), make("span", {}, words)), picture,
      make("div", { className: "ends", "aria-hidden": "true" }, make("span", {}, digits(low)), make("span", {}, digits(high))));
  };
  data.columns.forEach((name, column) => {
    const values = data.values[column].filter((value) => value !== null);
    if (!column || !values.length) return;
    const low = column === data.columns.length - 1 ? 0 : Math.min(0.5, Math.min(...values));
    const high = column === data.columns.length - 1 ? Math.max(0.1, ...values) : 1;
    $("pictures").append(histogram(name, values, low, high));
  });
  if (!$("pictures").children.length) $("pictures").append(make("p", { className: "empty" }, "No lens of this pack was measured."));
  $("meanings").append(
    table(["grade", "what it means", "lenses"], data.grades),
    make("p", { className: "hint" }, "A lens has the worst letter that one of its measures earns:"),
    table(["measure", ...data.letters.slice(0, data.rule[0].length - 1)], data.rule));

  // The list.

  const all = [...Array(count).keys()];
  const state = { sort: "grade", falls: false, shown: AT_ONCE, chosen: null };
  const HEADS = [["name", "concept"], ["grade", "grade"], ["level", "level"], ...data.columns.map((name, place) => [place, name])];
  const rank = Object.fromEntries(data.letters.map((letter, place) => [letter, place]));
  const key = (lens) => {
    if (state.sort === "name") return data.names[lens].toLowerCase();
    if (state.sort === "grade") return rank[data.grade[lens]];
    if (state.sort === "level") return data.lens_levels[lens];
    return data.values[state.sort][lens];
  };
  const lowered = all.map((lens) => `${data.names[lens]} ${data.ids[lens]}`.toLowerCase());
  for (const letter of data.letters) $("grade").append(make("option", { value: letter }, letter));

  function wanted() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const grade = $("grade").value;
    const found = all.filter((lens) => (!grade || data.grade[lens] === grade) && words.every((word) => lowered[lens].includes(word)));
    const sign = state.falls ? -1 : 1;
    return found.sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // what was not measured is last, either way
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b;
    });
  }
  function list() {
    const found = wanted();
    $("list").tHead.replaceChildren(make("tr", {}, ...HEADS.map(([what, head]) => {
      const cell = make("th", { scope: "col", className: typeof what === "number" || what === "level" ? "number" : "" },
        make("button", { type: "button", onclick: () => sortBy(what) }, head));
      if (state.sort === what) cell.setAttribute("aria-sort", state.falls ? "descending" : "ascending");
      return cell;
    })));
    $("list").tBodies[0].replaceChildren(...found.slice(0, state.shown).map((lens) =>
      make("tr", { className: state.chosen === lens ? "chosen" : "" },
        make("td", {}, make("button", { type: "button", "aria-pressed": String(state.chosen === lens), onclick: () => choose(lens, true), id: `lens-${lens}` }, data.names[lens]),
          make("span", { className: "path" }, data.ids[lens])),
        make("td", { className: "letter" }, data.grade[lens]),
        make("td", { className: "number" }, String(data.lens_levels[lens])),
        ...data.columns.map((_, column) => make("td", { className: "number" }, said(data.values[column][lens], column))))));
    $("count").textContent = found.length === count ? `${count.toLocaleString("en")} lenses.`
      : `${found.length.toLocaleString("en")} of ${count.toLocaleString("en")} lenses.`;
    const rest = found.length - state.shown;
    $("more").hidden = rest <= 0;
    $("more").textContent = `Show ${Math.min(AT_ONCE, rest).toLocaleString("en")} more`;
  }
  function sortBy(what) {
    const falls = typeof what === "number"; // of numbers the highest first
    Object.assign(state, { falls: state.sort === what ? !state.falls : falls, sort: what, shown: AT_ONCE });
    list();
    $("list").tHead.querySelectorAll("button")[HEADS.findIndex(([one]) => one === what)].focus();
  }
  for (const [id, event] of [["search", "input"], ["grade", "change"]]) {
    $(id).addEventListener(event, () => { state.shown = AT_ONCE; list(); });
  }
  $("more").addEventListener("click", () => { state.shown += AT_ONCE; list(); });

  // A card.

  function choose(lens, isAsked) {
    state.chosen = lens;
    list();
    if (isAsked) {
      $(`lens-${lens}`)?.focus();
      history.replaceState(null, "", `#${encodeURIComponent(data.ids[lens])}`);
    }
    $("card-title").textContent = data.names[lens];
    $("card-said").textContent = `${data.ids[lens]} · grade ${data.grade[lens]}`;
    $("card").replaceChildren(...data.cards[lens].map(([title, ...cells]) => {
      const rows = make("dl");
      for (let at = 0; at < cells.length; at += 2) {
        const value = data.strings[cells[at + 1]];
        rows.append(make("dt", {}, data.strings[cells[at]]), make("dd", { className: value.startsWith("not measured") ? "not" : "" }, value));
      }
      return make("section", {}, make("h3", {}, data.strings[title]), rows);
    }));
  }
  const named = () => all.find((lens) => data.ids[lens] === decodeURIComponent(location.hash.slice(1)));
  choose(named() ?? wanted()[0], false);

  $("facts").append(
    definitions("Pack", data.about),
    make("section", {}, make("h3", {}, "Levels"), table(["level", "concepts", "families", "scored"], data.levels)));

  startTheme();
})();
