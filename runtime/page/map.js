/* The hierarchy as a map: a country for each concept below the one that was walked into, its cells the concepts below
   that, as large as there is much below them. A cell is as full of its branch's colour as the concept is probable at the
   word that is shown; one that was not scored is empty.

   Countries are laid out as a squarified treemap (Bruls, Huizing, van Wijk): rows along the shorter side, each as long
   as that makes its cells squarer. */
const GAP = 3, TITLE = 19, LEAST = 7, LETTER = 5.9; // pixels

/* A probability of 1/2 is nothing remarkable among some hundreds of lenses: a lamp is bright near 1 alone. */
const glow = (p) => (Number.isNaN(p) ? 0 : p ** 8);

/* Rectangles with areas like `weights`, which descend, that fill `width` times `height` at (x, y). */
function squarified(weights, x, y, width, height) {
  const boxes = [];
  let rest = weights.reduce((sum, weight) => sum + weight, 0), at = 0;
  while (at < weights.length && width > 0 && height > 0) {
    const side = Math.min(width, height), area = (width * height) / rest;
    const worst = (sum, largest, least) => Math.max((side ** 2 * largest) / (sum ** 2 * area), (sum ** 2 * area) / (side ** 2 * least));
    let end = at + 1, sum = weights[at];
    while (end < weights.length && worst(sum + weights[end], weights[at], weights[end]) <= worst(sum, weights[at], weights[end - 1])) sum += weights[end++];
    const thick = (sum * area) / side;
    let along = 0;
    for (; at < end; at++) {
      const long = (weights[at] * area) / thick;
      boxes.push(width >= height ? { x, y: y + along, width: thick, height: long } : { x: x + along, y, width: long, height: thick });
      along += long;
    }
    if (width >= height) { x += thick; width -= thick; } else { y += thick; height -= thick; }
    rest -= sum;
  }
  return boxes;
}

function makeMap(view) {
  const land = $("map");
  let root = -1; // -1: the whole hierarchy
  let cells = []; // [concept, element, glow when it was painted last]
  let size = "";

  const bySize = (members) => [...members].sort((a, b) => view.concepts.below[b] - view.concepts.below[a] || a - b);
  const weight = (concept) => (1 + view.concepts.below[concept]) ** 0.65;
  const place = (element, box) => {
    for (const [name, value] of [["left", box.x], ["top", box.y], ["width", box.width], ["height", box.height]]) element.style.setProperty(name, `${value.toFixed(1)}px`);
    return element;
  };

  function cell(concept, className, box) {
    const { concepts } = view;
    const isBranch = concepts.children[concept].length > 0;
    const name = concepts.names[concept], room = Math.floor((box.width - 8) / LETTER);
    const fits = name.length <= room, wraps = !fits && box.height > 30 && Math.max(...name.split(" ").map((word) => word.length)) <= room;
    const isNamed = box.height > 13 && (fits || wraps || room > 3);
    const element = make("button", {
      type: "button", tabIndex: -1, className: `${className}${concepts.trust(concept)}`, style: { "--c": concepts.colour(concept) },
      data: isBranch ? { walk: concept, place: concept } : { concept, place: concept },
    }, ...(isNamed ? [make("span", { className: wraps ? "label wraps" : "label" }, name)] : []));
    if (!isBranch) element.setAttribute("aria-pressed", view.state.tracks.includes(concept));
    cells.push([concept, element, -1]);
    return element;
  }

  function country(concept, box) {
    const { concepts } = view;
    const inner = { x: 0, y: TITLE, width: box.width - 2 * GAP, height: box.height - TITLE - GAP };
    const below = concepts.children[concept];
    if (!below.length || inner.width < 3 * LEAST || inner.height < 2 * LEAST) return place(cell(concept, "cell alone", box), shrunk(box));
    const members = bySize(below);
    const boxes = squarified(members.map(weight), GAP, inner.y, inner.width, inner.height);
    return place(make("div", { className: "country", style: { "--c": concepts.colour(concept) } },
      place(cell(concept, "title", { width: box.width, height: TITLE }), { x: 0, y: 0, width: box.width - GAP, height: TITLE - 1 }),
      ...members.flatMap((member, at) => {
        const box = shrunk(boxes[at], 1);
        return boxes[at] && box.width >= LEAST && box.height >= LEAST ? [place(cell(member, "cell", box), box)] : [];
      })), shrunk(box));
  }

  const shrunk = (box, by = GAP) => box && { ...box, width: box.width - by, height: box.height - by };

  function lay() {
    const { concepts } = view;
    const { clientWidth: width, clientHeight: height } = land;
    size = `${width} ${height}`;
    cells = [];
    if (!width || !height) return;
    const members = bySize(root < 0 ? concepts.tops : concepts.children[root]);
    const boxes = squarified(members.map(weight), 0, 0, width + GAP, height + GAP);
    land.replaceChildren(...members.map((concept, at) => country(concept, boxes[at])));
    const first = land.querySelector("[data-place]");
    if (first) first.tabIndex = 0;
    layWay();
    light();
  }

  /* The way to here: each step is a way out. */
  function layWay() {
    const { concepts, state } = view;
    const path = root < 0 ? [] : concepts.paths[root];
    const steps = [-1, ...path].map((concept, at) => {
      const name = concept < 0 ? "All concepts" : concepts.names[concept];
      return make("li", {}, at === path.length ? make("span", { "aria-current": "true" }, name)
        : make("button", { type: "button", data: { walk: concept } }, name));
    });
    if (root >= 0) steps.push(make("li", { className: "act" }, make("button", {
      type: "button", className: "quiet", "aria-pressed": state.tracks.includes(root), "aria-label": `Draw ${concepts.names[root]} along the text`, data: { concept: root },
    }, "Draw along the text")));
    $("way").replaceChildren(...steps);
  }

  /* Paint what has changed. */
  function light() {
    const { concepts } = view;
    const of = view.lightsOf(view.shownWord());
    for (const cell of cells) {
      const [concept, element, painted] = cell;
      const p = of[concept], shade = Math.round(100 * glow(p));
      const key = Number.isNaN(p) ? -2 : shade;
      if (key === painted) continue;
      cell[2] = key;
      element.style.setProperty("--a", shade / 100);
      element.classList.toggle("unscored", Number.isNaN(p));
      element.classList.toggle("lit", p >= concepts.tintFrom);
      const many = concepts.below[concept];
      element.setAttribute("aria-label", `${concepts.names[concept]}, ${concepts.said(p, concept)}${many ? `; walk into ${plural(many, "concept", "concepts")}` : "; draw along the text"}`);
    }
    if (pointed !== null) say(pointed);
  }

  let pointed = null;
  function say(concept) {
    pointed = concept;
    const { concepts } = view;
    if (concept === null) { $("map-said").textContent = ""; return; }
    const p = view.lightsOf(view.shownWord())[concept];
    const many = concepts.below[concept];
    $("map-said").replaceChildren(make("b", {}, concepts.names[concept]),
      ` ${[concepts.said(p, concept), concepts.graded(concept), concepts.above(concept, 60), many ? plural(many, "concept below", "concepts below") : ""].filter(Boolean).join(" · ")}`);
  }

  /* Walk into a concept, or out to one above; the picture grows out of where it was. */
  function walk(concept, isFocused = false) {
    const { concepts } = view;
    const from = cells.find(([other]) => other === concept)?.[1];
    const start = (from?.closest(".country") ?? from)?.getBoundingClientRect(), whole = land.getBoundingClientRect();
    const left = root;
    root = concept;
    lay();
    if (matchMedia("(prefers-reduced-motion: no-preference)").matches) {
      const grown = start ? `translate(${start.left - whole.left}px, ${start.top - whole.top}px) scale(${start.width / whole.width}, ${start.height / whole.height})` : "scale(1.06)";
      land.animate([{ transform: grown, opacity: 0.4, transformOrigin: start ? "0 0" : "50% 50%" }, { transform: "none", opacity: 1, transformOrigin: start ? "0 0" : "50% 50%" }], { duration: 240, easing: "ease-out" });
    }
    say(null);
    if (!isFocused) return;
    const back = left >= 0 && concepts.paths[left].find((step) => concepts.parents[step] === root);
    focus(land.querySelector(`[data-place="${back}"]`) ?? land.querySelector("[data-place]"));
  }

  function focus(element) {
    if (!element) return;
    for (const other of land.querySelectorAll('[tabindex="0"]')) other.tabIndex = -1;
    element.tabIndex = 0;
    element.focus({ preventScroll: true });
  }

  /* The nearest cell in a direction, as seen from the middle of this one. */
  function beside(element, dx, dy) {
    const middle = (other) => { const box = other.getBoundingClientRect(); return [(box.left + box.right) / 2, (box.top + box.bottom) / 2]; };
    const [x, y] = middle(element);
    let best = null, least = Infinity;
    for (const [, other] of cells) {
      const [ox, oy] = middle(other);
      const ahead = (ox - x) * dx + (oy - y) * dy, aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
      if (other === element || ahead < 2) continue;
      if (ahead + 2.5 * aside < least) { least = ahead + 2.5 * aside; best = other; }
    }
    return best;
  }

  land.addEventListener("keydown", (event) => {
    const at = event.target.closest("[data-place]");
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (dx || dy) focus(beside(at, dx, dy));
    else if (event.key === "Backspace" && root >= 0) walk(view.concepts.parents[root], true);
    else return;
    event.preventDefault();
  });
  for (const kind of ["pointerover", "focusin"]) land.addEventListener(kind, (event) => {
    const at = event.target.closest("[data-place]");
    if (at) say(Number(at.dataset.place));
  });
  land.addEventListener("pointerleave", () => say(null));
  new ResizeObserver(() => { if (view.run && size !== `${land.clientWidth} ${land.clientHeight}`) lay(); }).observe(land);

  return {
    open() { root = -1; pointed = null; lay(); },
    light,
    layWay,
    walk,
  };
}
