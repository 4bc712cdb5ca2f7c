/* The text: a word of the page for each token, tinted, with lanes of chosen concepts below it where they are wanted. */

/* Shares of colour in a word's background; with more than the strongest, letters would be hard to read. */
const FAINTEST = 0.1, STRONGEST = 0.52;

function makeText(view) {
  const text = $("text");
  let elements = [];
  let branches = new Map();

  function elementOf(word) {
    const { concepts } = view;
    const core = word.text.trim();
    const event = word.event;
    const strongest = event?.top.slice(0, 3).filter((concept) => event.of[concept] >= concepts.tintFrom) ?? [];
    const label = [
      core || word.mark || "white space",
      word.isRead ? "read" : "predicted",
      event?.alarms.length ? `alarm: ${event.alarms.map((concept) => concepts.names[concept]).join(", ")}` : "",
      strongest.map((concept) => `${concepts.names[concept]} ${concepts.said(event.of[concept], concept)}`).join(", ")
        || (event?.top.length ? "no concept stands out" : "not scored"),
    ].filter(Boolean).join("; ");
    return make("span", {
      role: "option", id: `w${word.index}`, "aria-label": label, "aria-selected": "false", tabIndex: word.index ? -1 : 0,
      className: ["w", word.isRead && "read", !core && "mark", event?.coverage[3] && "failed", event?.met.length && "met", event?.alarms.length && "alarm"].filter(Boolean).join(" "),
      data: { word: word.index },
    }, core || (word.mark ?? "↵"));
  }

  /* A word's background: lanes in its padding, its tint behind the letters. */
  function tint(word) {
    const { concepts } = view;
    const element = elements[word.index], event = word.event;
    const lanes = $("lanes").checked && !element.matches(".mark") ? view.state.tracks : []; // marks are too small
    const layers = [];
    const add = (paint, size, position, clip) => layers.push({ paint, size, position, clip });
    lanes.forEach((concept, lane) => {
      const probability = event ? event.of[concept] : NaN;
      const paint = Number.isNaN(probability) ? "transparent"
        : `color-mix(in srgb, ${concepts.colour(concept)} ${((8 + 92 * probability) * (concepts.isVouched(concept) ? 1 : 0.4)).toFixed(0)}%, transparent)`;
      add(paint, "100% 2.5px", `0 calc(100% - ${(lanes.length - 1 - lane) * 4}px)`, "padding-box");
    });
    if (event && event.tint !== null) {
      const share = FAINTEST + (STRONGEST - FAINTEST) * (event.of[event.tint] - concepts.tintFrom) / (1 - concepts.tintFrom);
      add(`color-mix(in srgb, ${concepts.colour(event.tint)} ${(100 * share).toFixed(1)}%, transparent)`, "100% 100%", "0 0", lanes.length ? "content-box" : "padding-box");
    }
    const style = element.style;
    style.backgroundImage = layers.map(({ paint }) => `linear-gradient(${paint}, ${paint})`).join(", ");
    style.backgroundSize = layers.map(({ size }) => size).join(", ");
    style.backgroundPosition = layers.map(({ position }) => position).join(", ");
    style.backgroundClip = layers.map(({ clip }) => clip).join(", ");
    style.backgroundOrigin = "padding-box";
    style.backgroundRepeat = "no-repeat";
  }

  function tintAll() {
    document.documentElement.style.setProperty("--lanes", $("lanes").checked ? view.state.tracks.length : 0);
    for (const { dataset } of elements) tint(view.run.words[dataset.word]);
  }

  function layBranches() {
    const { concepts, run } = view;
    const ranked = [...run.tinted].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    // While it grows they stay where they are: what moves cannot be pointed at.
    const shown = run.isRunning ? [...run.tinted].sort((a, b) => (branches.get(a[0]) ?? 1e9) - (branches.get(b[0]) ?? 1e9)) : ranked;
    branches = new Map(shown.map(([branch], place) => [branch, place]));
    keyed($("legend"), shown, ([branch]) => branch, ([branch]) => make("li", {}, make("button", {
      type: "button", "aria-pressed": view.state.tracks.includes(branch), data: { concept: branch }, style: { "--c": concepts.colour(branch) },
    }, make("span", { className: "swatch" }), make("span", { className: "label" }, concepts.names[branch]), " ", make("span", { className: "count" }))),
    (item, [, number]) => {
      item.firstChild.title = `${plural(number, "word", "words")}; draw it along the text`;
      item.querySelector(".count").textContent = String(number);
    });
    return ranked[0]?.[0];
  }

  function layLegend() {
    const { concepts, run } = view;
    const strongest = layBranches();
    const scale = [];
    if (strongest !== undefined) scale.push(make("span", {}, "Tint: how probable the strongest measured concept is, ",
      make("span", { className: "ramp" }, `from ${concepts.tintFrom.toFixed(2)} `,
        make("i", { style: { background: `linear-gradient(90deg, color-mix(in srgb, ${concepts.colour(strongest)} ${100 * FAINTEST}%, transparent), color-mix(in srgb, ${concepts.colour(strongest)} ${100 * STRONGEST}%, transparent))` } }),
        " to 1.00.")));
    else if (run.words.length && !run.isRunning) scale.push(make("span", {}, concepts.anyVouched
      ? `No word has a tint: no measured concept reaches ${concepts.tintFrom.toFixed(2)}.`
      : "No word has a tint: no lens seen here is calibrated and measured."));
    scale.push(make("span", {}, make("em", {}, "Italic"), ": read as the prompt. Upright: written; its concepts were active before the word was."));
    if ([...run.events].some((event) => event.alarms.length)) scale.push(make("span", {}, make("span", { className: "w alarm" }, "Underlined twice"), ": an alarm; the word says of which concepts."));
    $("scale").replaceChildren(...scale);
    const from = concepts.grades.map(([letter, least], place) => `${letter} ${place ? "" : "from "}${place + 1 < concepts.grades.length ? least.toFixed(2) : "below"}`);
    $("grades").replaceChildren(
      `Grade: the worst letter that a lens’s measures on held-out texts earn; by AUROC, ${from.join(", ")}. `, make("em", {}, "Unmeasured"),
      `: fewer than ${concepts.measuredFrom} such texts. “?” marks what is unmeasured or not calibrated: it gives no colour.`);
  }

  $("lanes").addEventListener("change", tintAll);
  return {
    elements: () => elements,

    open() {
      elements = [];
      branches = new Map();
      text.replaceChildren();
      $("legend").replaceChildren();
    },

    /* The words that have come since. */
    grow() {
      for (const word of view.run.words.slice(elements.length)) {
        const element = elementOf(word);
        elements.push(element);
        // A direction that a token turns on would reach to the end of the text.
        if (/[\u202a-\u202e\u2066-\u2069]/.test(word.text)) element.style.unicodeBidi = "isolate";
        const [lead, tail] = word.text.trim() ? [word.text.match(/^\s*/)[0], word.text.match(/\s*$/)[0]] : ["", word.text];
        text.append(lead, element, tail);
        tint(word);
      }
      layBranches();
    },

    layLegend,
    tintAll,
  };
}
