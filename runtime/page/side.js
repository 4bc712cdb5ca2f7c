/* What is active at the word that is shown, or over the whole text: the strongest concepts, and the hierarchy as a tree. */
function makeSide(view) {
  const opened = new Set(), closed = new Set(), whole = new Set();

  function conceptItem(concept) {
    const { concepts } = view;
    return make("li", {}, make("button", {
      type: "button", className: `concept${concepts.trust(concept)}`, title: concepts.explained(concept), "aria-pressed": view.state.tracks.includes(concept), data: { concept },
      style: { "--c": concepts.colour(concept) },
    },
    make("span", { className: "line" }, make("span", { className: "label" }, concepts.names[concept]), make("span", { className: "value" })),
    make("span", { className: "gauge" }, make("i")),
    make("span", { className: "line" }, make("span", { className: "path", title: concepts.above(concept) }, concepts.above(concept, 34) || "top of the hierarchy"),
      make("span", { className: `grade ${concepts.grade[concept]}` }, concepts.graded(concept)))));
  }

  function showTop(word) {
    const { concepts, run } = view;
    const lay = (items, value, share) => keyed($("top"), items, (concept) => concept, conceptItem, (item, concept) => {
      item.querySelector(".value").textContent = value(concept);
      item.querySelector(".gauge i").style.width = `${(100 * share(concept)).toFixed(1)}%`;
    });
    if (word === null) {
      const ranked = run.byRank.slice(0, 12);
      const most = Math.max(1, ...ranked.map((concept) => run.leading[concept]));
      lay(ranked, (concept) => plural(run.leading[concept], "word", "words"), (concept) => run.leading[concept] / most);
    } else {
      const of = word.event?.of;
      lay(word.event?.top ?? [], (concept) => concepts.said(of[concept], concept), (concept) => of[concept]);
    }
    if (!$("top").children.length) $("top").append(make("li", { className: "said-not" }, run.words.length ? "Nothing was scored here." : "Nothing was read yet."));
  }

  function showHead(word) {
    const { concepts, run, state } = view;
    $("release").hidden = word === null || state.selected === null;
    $("side-loud").hidden = !word?.event?.coverage[3] && !word?.event?.alarms.length;
    if (word === null) {
      $("side-kicker").textContent = "Over the whole text";
      $("side-title").textContent = "What was active";
      $("side-said").textContent = !run.words.length ? "" : `Words at which a concept is among the most specific, from ${concepts.tintFrom.toFixed(2)}; in the hierarchy, its peak and these words. Choose a word to see its own.`;
      return;
    }
    const event = word.event;
    const now = view.isFollowing() ? ", just now" : "";
    $("side-kicker").textContent = `${word.isRead ? "Read" : "Written"}, position ${word.index}${state.pinned ? ", kept" : now}`;
    $("side-title").textContent = run.called(word);
    if (!event) { $("side-said").textContent = "No event tells of this word."; return; }
    const [expected, scored, pending, failed, cut] = event.coverage;
    const origin = word.isRead ? "active as it was read" : `active before it was written, at position ${event.at}`;
    $("side-said").textContent = (event.state === "ok"
      ? [`${origin}; ${scored.toLocaleString("en")} of ${concepts.of.toLocaleString("en")} lenses scored`,
        cut ? `${plural(cut, "family", "families")} beyond the width` : "", pending ? `${pending} pending` : ""].filter(Boolean).join(", ") + "."
      : `Not scored: ${event.state}.`) + event.met.map((met) => ` Rule ${met}.`).join("");
    $("side-loud").textContent = [
      event.alarms.length ? `Alarm: ${event.alarms.map((concept) => `${concepts.names[concept]} ${concepts.said(event.of[concept], concept)}`).join(", ")}.` : "",
      failed ? `${failed} of ${expected} lenses could not be scored${event.failed.length ? `: those under ${event.failed.map((name) => name || "the top").join(", ")}` : ""}.` : "",
    ].filter(Boolean).join(" ");
  }

  /* The hierarchy: what is lit, with the way down to it; the rest of each family folded away until it is asked for. */
  function showTree(word) {
    const { concepts, run, state } = view;
    const { names, children } = concepts;
    const of = view.lightsOf(word);
    const brightest = word === null ? run.byRank.slice(0, 24) : concepts.all.filter((concept) => of[concept] >= concepts.tintFrom);
    const lit = new Uint8Array(concepts.count);
    for (const concept of brightest) for (const step of concepts.paths[concept]) lit[step] = 1;
    const node = (concept) => {
      const below = children[concept].filter((child) => !Number.isNaN(of[child]));
      const isOpen = below.length > 0 && (opened.has(concept) || (!closed.has(concept) && below.some((child) => lit[child])));
      const p = of[concept];
      const value = concepts.said(p, concept);
      const item = make("li", {}, make("div", { className: `node${concepts.trust(concept)}`, style: { "--c": concepts.colour(concept), "--a": Number.isNaN(p) ? 0 : p * p } },
        make("button", {
          type: "button", className: below.length ? "fold" : "fold leaf", "aria-expanded": isOpen,
          "aria-label": `${names[concept]}: ${plural(below.length, "concept", "concepts")} below`, data: { fold: concept },
        }, isOpen ? "▾" : "▸"),
        make("span", { className: "lamp" }),
        make("button", { type: "button", className: "name", title: `${concepts.explained(concept)}; ${concepts.graded(concept)}`, "aria-pressed": state.tracks.includes(concept), data: { concept } },
          make("span", { className: `label ${p >= concepts.tintFrom ? "lit" : "dark"}` }, names[concept]),
          make("span", { className: "value" }, word === null && run.leading[concept] ? `${value} · ${run.leading[concept]}` : value))));
      if (isOpen) item.append(make("ul", {}, ...family(below, concept)));
      return item;
    };
    const family = (members, parent) => {
      const isWhole = whole.has(parent) || !members.some((member) => lit[member]);
      const rows = members.filter((member) => isWhole || lit[member]).map(node);
      const dark = members.length - rows.length;
      if (dark || whole.has(parent)) {
        rows.push(make("li", {}, make("button", { type: "button", className: "rest", "aria-expanded": whole.has(parent), data: { whole: parent } },
          whole.has(parent) ? "fewer" : `${dark} more, not lit`)));
      }
      return rows;
    };
    const roots = concepts.tops.filter((concept) => !Number.isNaN(of[concept]) || lit[concept]);
    const focused = $("tree").contains(document.activeElement) ? { ...document.activeElement.dataset } : {};
    $("tree").replaceChildren(...(roots.length ? family(roots, -1) : [make("li", { className: "said-not" }, "Nothing was scored here.")]));
    for (const name of ["fold", "whole", "concept"]) {
      if (focused[name] !== undefined) $("tree").querySelector(`[data-${name}="${focused[name]}"]`)?.focus();
    }
  }

  const redraw = () => showTree(view.shownWord());

  // Tabs.

  const tabs = [$("tab-top"), $("tab-tree")];
  function openTab(tab) {
    for (const other of tabs) {
      other.setAttribute("aria-selected", other === tab);
      other.tabIndex = other === tab ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = other !== tab;
    }
    redraw();
  }
  for (const tab of tabs) {
    tab.addEventListener("click", () => openTab(tab));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = tabs[1 - tabs.indexOf(tab)];
      openTab(other);
      other.focus();
    });
  }

  return {
    open() {
      for (const set of [opened, closed, whole]) set.clear();
      $("top").replaceChildren();
    },

    showHead,

    show(word) {
      showTop(word);
      // While words come every few milliseconds, what nobody sees is not made.
      if (!view.run.isRunning || !$("panel-tree").hidden) showTree(word);
    },

    fold(concept, isOpen) {
      (isOpen ? closed : opened).add(concept);
      (isOpen ? opened : closed).delete(concept);
      redraw();
    },

    toggleWhole(parent) {
      if (!whole.delete(parent)) whole.add(parent);
      redraw();
    },
  };
}
