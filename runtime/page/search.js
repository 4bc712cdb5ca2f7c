/* Search among the concepts; what is taken is drawn along the text. */
function makeSearch(view) {
  const search = $("search"), found = $("found");
  let haystack = [], matches = [], active = -1;

  function look() {
    const { concepts, run, state } = view;
    const query = search.value.trim().toLowerCase();
    const rank = (concept) => {
      const name = concepts.names[concept].toLowerCase();
      return name === query ? 0 : name.startsWith(query) ? 1 : name.includes(query) ? 2 : 3;
    };
    const height = (concept) => (Number.isNaN(run.peak[concept]) ? -1 : run.peak[concept]);
    matches = query ? concepts.all.filter((concept) => haystack[concept].includes(query))
      .sort((a, b) => rank(a) - rank(b) || height(b) - height(a)).slice(0, 20) : [];
    active = matches.length ? 0 : -1;
    const told = (concept) => {
      if (state.tracks.includes(concept)) return "chosen";
      if (!run.words.length) return "";
      return Number.isNaN(run.peak[concept]) ? "not scored" : `peak ${concepts.said(run.peak[concept], concept)}`;
    };
    found.replaceChildren(...matches.map((concept, place) => make("li", { role: "option", id: `f${place}`, data: { found: concept }, style: { "--c": concepts.colour(concept) } },
      make("span", {}, make("span", { className: "swatch" }), concepts.names[concept]),
      make("span", { className: "value" }, told(concept)),
      make("span", { className: "path" }, `${concepts.above(concept) || "top of the hierarchy"} · ${concepts.graded(concept)}`))));
    if (query && !matches.length) found.append(make("li", { role: "option", className: "nothing", "aria-disabled": "true", "aria-selected": "false" },
      concepts.count < concepts.of ? "No concept of that name was seen." : "No concept has that name."));
    found.hidden = !query;
    search.setAttribute("aria-expanded", !found.hidden);
    mark();
  }

  function mark() {
    if (matches.length) [...found.children].forEach((item, place) => item.setAttribute("aria-selected", place === active));
    if (active < 0) search.removeAttribute("aria-activedescendant");
    else search.setAttribute("aria-activedescendant", `f${active}`);
    found.children[active]?.scrollIntoView({ block: "nearest" });
  }

  function take(concept) {
    view.toggleTrack(concept);
    search.value = "";
    look();
    $("tracks").querySelector(`[data-track="${concept}"]`)?.scrollIntoView({ block: "nearest" });
  }

  search.addEventListener("input", look);
  search.addEventListener("blur", () => { found.hidden = true; search.setAttribute("aria-expanded", "false"); search.removeAttribute("aria-activedescendant"); });
  search.addEventListener("focus", look);
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (matches.length) active = (active + (event.key === "ArrowDown" ? 1 : -1) + matches.length) % matches.length;
      mark();
    } else if (event.key === "Enter" && active >= 0) take(matches[active]);
    else if (event.key === "Escape") {
      event.preventDefault();
      if (search.value) { search.value = ""; look(); } else view.focusWord(view.state.selected ?? 0);
    }
  });
  found.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // the field keeps the focus
    const item = event.target.closest("[data-found]");
    if (item) take(Number(item.dataset.found));
  });

  return {
    open() {
      const { concepts } = view;
      haystack = concepts.all.map((concept) => `${concepts.names[concept]} ${concepts.ids[concept]} ${concepts.above(concept)}`.toLowerCase());
    },
  };
}
