/* The page of one watched generation: its words, what is active at each, and how that runs along the text.

   All text comes out of the JSON block and goes into text nodes and attributes, never into markup: a model may have
   written anything. `shown()` is the word that everything else follows; null stands for the whole text. */
(() => {
  const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

  /* Shares of colour in a word's background; with more than the strongest, letters would be hard to read. */
  const FAINTEST = 0.1, STRONGEST = 0.52;

  // What was seen.

  const { name: names, parent: parents, id: ids } = data.concepts;
  const count = names.length;
  const children = names.map(() => []);
  const tops = [];
  parents.forEach((parent, concept) => (parent < 0 ? tops : children[parent]).push(concept));
  const paths = []; // a parent comes before its children
  parents.forEach((parent, concept) => paths.push(parent < 0 ? [concept] : [...paths[parent], concept]));
  const top = paths.map((path) => path[0]);
  const colour = (concept) => data.colours[top[concept]];
  /* The way down to a concept; where that is longer than `most` letters the middle goes first. */
  const above = (concept, most = Infinity) => {
    const steps = paths[concept].slice(0, -1).map((index) => names[index]);
    let kept = steps;
    for (let dropped = 1; kept.join(" › ").length > most && dropped < steps.length - 1; dropped++) {
      kept = [steps[0], "…", ...steps.slice(1 + dropped)];
    }
    return kept.join(" › ");
  };
  const isCalibrated = (concept) => data.concepts.calibrated[concept] === "1";
  /* Nothing vouches for a lens that was not measured or is not calibrated: it is marked, pale, and gives no colour. */
  const isVouched = (concept) => data.concepts.vouched[concept] === "1";
  const trust = (concept) => (isVouched(concept) ? "" : " unsure");

  const said = (probability, concept) => probability.toFixed(2) + (isVouched(concept) ? "" : "?");
  const graded = (concept) => {
    const { auroc, grade } = data.concepts;
    if (grade[concept] === "unmeasured") return "unmeasured";
    return `${grade[concept]}, AUROC ${(Math.floor(100 * auroc[concept]) / 100).toFixed(2)}`; // rounded up, it could be that of a better grade
  };
  const explained = (concept) => [
    ids[concept],
    isCalibrated(concept) ? "" : "not calibrated",
    data.concepts.positives[concept] === null ? "" : plural(data.concepts.positives[concept], "held-out text", "held-out texts"),
  ].filter(Boolean).join("; ");

  for (const event of data.events) {
    const bytes = atob(event.p);
    event.of = new Float32Array(count).fill(NaN); // not scored is not zero
    let at = 0;
    for (let run = 0; run < event.runs.length; run += 2) {
      for (let step = 0; step < event.runs[run + 1]; step++, at += 2) {
        event.of[event.runs[run] + step] = (bytes.charCodeAt(at) + 256 * bytes.charCodeAt(at + 1)) / 65535;
      }
    }
  }
  const words = data.words.map((text, index) => ({
    index, text,
    isRead: index < data.prompt,
    mark: data.marks[index],
    event: data.event_of[index] < 0 ? null : data.events[data.event_of[index]],
  }));
  const called = (word) => (word.text.trim() ? `“${word.text.trim()}”` : word.mark ?? "white space");

  // What is true of the whole text, of every concept: its peak, and the words at which it is on.
  const peak = new Float32Array(count).fill(NaN);
  const peakAt = new Int32Array(count).fill(-1);
  const on = new Int32Array(count);
  const leading = new Int32Array(count);
  for (const word of words) {
    if (!word.event) continue;
    word.event.of.forEach((probability, concept) => {
      if (Number.isNaN(probability)) return;
      if (!(peak[concept] >= probability)) { peak[concept] = probability; peakAt[concept] = word.index; }
      if (probability >= data.tint_from) on[concept]++;
    });
    for (const concept of word.event.top) if (word.event.of[concept] >= data.tint_from) leading[concept]++;
  }
  const byRank = names.map((_, concept) => concept).filter((concept) => leading[concept])
    .sort((a, b) => leading[b] - leading[a] || peak[b] - peak[a] || a - b);

  // The state of the page.

  const state = { hover: null, selected: null, pinned: false, tracks: [] };
  const shown = () => (state.pinned ? state.selected : state.hover ?? state.selected);

  // The text.

  const wordElements = words.map((word) => {
    const core = word.text.trim();
    const event = word.event;
    const strongest = event?.top.slice(0, 3).filter((concept) => event.of[concept] >= data.tint_from) ?? [];
    const label = [
      core || word.mark || "white space",
      word.isRead ? "read" : "predicted",
      event?.alarms.length ? `alarm: ${event.alarms.map((concept) => names[concept]).join(", ")}` : "",
      strongest.map((concept) => `${names[concept]} ${said(event.of[concept], concept)}`).join(", ")
        || (event?.top.length ? "no concept stands out" : "not scored"),
    ].filter(Boolean).join("; ");
    return make("span", {
      role: "option", id: `w${word.index}`, "aria-label": label, "aria-selected": "false", tabIndex: -1,
      className: ["w", word.isRead && "read", !core && "mark", event?.coverage[3] && "failed", event?.met.length && "met", event?.alarms.length && "alarm"].filter(Boolean).join(" "),
      data: { word: word.index },
    }, core || (word.mark ?? "↵"));
  });

  function layText() {
    const text = $("text");
    words.forEach((word, index) => {
      // A direction that a token turns on would reach to the end of the text.
      if (/[\u202a-\u202e\u2066-\u2069]/.test(word.text)) wordElements[index].style.unicodeBidi = "isolate";
      const [lead, tail] = word.text.trim() ? [word.text.match(/^\s*/)[0], word.text.match(/\s*$/)[0]] : ["", word.text];
      text.append(lead, wordElements[index], tail);
    });
  }

  /* A word's background: lanes of chosen concepts, where they are wanted, in its padding; its tint behind the letters. */
  function tintText() {
    const lanes = $("lanes").checked ? state.tracks : [];
    document.documentElement.style.setProperty("--lanes", lanes.length);
    words.forEach((word, index) => {
      const event = word.event;
      const layers = [];
      const add = (paint, size, position, clip) => layers.push({ paint, size, position, clip });
      const isMark = wordElements[index].matches(".mark"); // too small for lanes
      if (!isMark) lanes.forEach((concept, lane) => {
        const probability = event ? event.of[concept] : NaN;
        const paint = Number.isNaN(probability) ? "transparent"
          : `color-mix(in srgb, ${colour(concept)} ${((8 + 92 * probability) * (isVouched(concept) ? 1 : 0.4)).toFixed(0)}%, transparent)`;
        add(paint, "100% 2.5px", `0 calc(100% - ${(lanes.length - 1 - lane) * 4}px)`, "padding-box");
      });
      if (event && event.tint !== null) {
        const share = FAINTEST + (STRONGEST - FAINTEST) * (event.of[event.tint] - data.tint_from) / (1 - data.tint_from);
        add(`color-mix(in srgb, ${colour(event.tint)} ${(100 * share).toFixed(1)}%, transparent)`, "100% 100%", "0 0", lanes.length && !isMark ? "content-box" : "padding-box");
      }
      const style = wordElements[index].style;
      style.backgroundImage = layers.map(({ paint }) => `linear-gradient(${paint}, ${paint})`).join(", ");
      style.backgroundSize = layers.map(({ size }) => size).join(", ");
      style.backgroundPosition = layers.map(({ position }) => position).join(", ");
      style.backgroundClip = layers.map(({ clip }) => clip).join(", ");
      style.backgroundOrigin = "padding-box";
      style.backgroundRepeat = "no-repeat";
    });
  }

  function layLegend() {
    const tinted = new Map();
    for (const word of words) {
      if (word.event && word.event.tint !== null) {
        const branch = top[word.event.tint];
        tinted.set(branch, (tinted.get(branch) ?? 0) + 1);
      }
    }
    for (const [branch, number] of [...tinted].sort((a, b) => b[1] - a[1] || a[0] - b[0])) {
      $("legend").append(make("li", {}, make("button", {
        type: "button", "aria-pressed": "false", title: `${plural(number, "word", "words")}; draw it along the text`,
        data: { concept: branch }, style: { "--c": colour(branch) },
      }, make("span", { className: "swatch" }), make("span", { className: "label" }, names[branch]), " ",
      make("span", { className: "count" }, String(number)))));
    }
    const ramp = colour([...tinted].sort((a, b) => b[1] - a[1])[0]?.[0]);
    if (tinted.size) $("scale").append(make("span", {}, "Tint: how probable the strongest measured concept is, ",
      make("span", { className: "ramp" }, `from ${data.tint_from.toFixed(2)} `,
        make("i", { style: { background: `linear-gradient(90deg, color-mix(in srgb, ${ramp} ${100 * FAINTEST}%, transparent), color-mix(in srgb, ${ramp} ${100 * STRONGEST}%, transparent))` } }),
        " to 1.00.")));
    else $("scale").append(make("span", {}, data.concepts.vouched.includes("1")
      ? `No word has a tint: no measured concept reaches ${data.tint_from.toFixed(2)}.`
      : "No word has a tint: no lens seen here is calibrated and measured."));
    $("scale").append(make("span", {}, make("em", {}, "Italic"), ": read as the prompt. Upright: written; its concepts were active before the word was."));
    if (data.events.some((event) => event.alarms.length)) $("scale").append(make("span", {}, make("span", { className: "w alarm" }, "Underlined twice"), ": an alarm; the word says of which concepts."));
    const from = data.grades.map(([letter, least], place) => `${letter} ${place ? "" : "from "}${place + 1 < data.grades.length ? least.toFixed(2) : "below"}`);
    $("grades").append(
      `Grade: the worst letter that a lens’s measures on held-out texts earn; by AUROC, ${from.join(", ")}. `, make("em", {}, "Unmeasured"),
      `: fewer than ${data.measured_from} such texts. “?” marks what is unmeasured or not calibrated: it gives no colour.`);
  }

  $("lanes").addEventListener("change", tintText);

  // Strips along the text: a unit of width a word.

  function strip(bars) {
    const svg = $("strip").content.firstElementChild.cloneNode(true);
    svg.setAttribute("viewBox", `0 0 ${Math.max(1, words.length)} 100`);
    const set = (selector, attributes) => {
      for (const [name, value] of Object.entries(attributes)) svg.querySelector(selector).setAttribute(name, value);
    };
    set(".prompt", { x: 0, y: 0, width: data.prompt, height: 100 });
    const gap = Math.min(0.12, words.length / 2000);
    const shape = (heights, base) => heights.map((height, x) => (height > 0
      ? `M${x + gap} ${(100 - base[x] - height).toFixed(2)}h${1 - 2 * gap}v${height.toFixed(2)}h${2 * gap - 1}z` : "")).join("");
    const none = words.map(() => 0);
    set(".bars", { d: shape(bars.first, none) });
    if (bars.second) set(".more", { d: shape(bars.second, bars.first) });
    if (bars.missing) set(".none", { d: bars.missing.map((is, x) => (is ? `M${x + 0.3} 95h0.4v3h-0.4z` : "")).join("") });
    if (bars.half) set(".half", { x1: 0, x2: words.length, y1: 50, y2: 50 });
    else svg.querySelector(".half").remove();
    set(".cursor", { x: -9, y: 0, width: 1, height: 100 });
    return svg;
  }

  function layTracks() {
    const rows = state.tracks.map((concept) => {
      const values = words.map((word) => (word.event ? word.event.of[concept] : NaN));
      const svg = strip({ first: values.map((p) => (p >= 0 ? 100 * p : 0)), missing: values.map(Number.isNaN), half: true });
      svg.style.setProperty("--c", colour(concept));
      svg.classList.toggle("unsure", !isVouched(concept));
      const best = peakAt[concept] < 0 ? "never scored" : `peak ${said(peak[concept], concept)} at ${called(words[peakAt[concept]])}`;
      return make("div", { className: "track", role: "group", "aria-label": `${names[concept]}: ${best}, ${plural(on[concept], "word", "words")} from ${data.tint_from.toFixed(2)}`, data: { track: concept } },
        make("div", { className: "track-head", style: { "--c": colour(concept) } },
          make("span", { title: explained(concept) }, make("span", { className: "swatch" }), make("span", { className: "label" }, names[concept])),
          make("span", { className: "path" }, [above(concept, 60), graded(concept)].filter(Boolean).join(" · ")),
          make("span", { className: "peak" }, best),
          make("button", { type: "button", className: "remove", "aria-label": `Remove ${names[concept]}`, data: { remove: concept } }, "×")),
        svg);
    });
    $("tracks").replaceChildren(...(rows.length ? rows : [make("p", { className: "empty" }, "No concept is chosen.")]));
    $("axis").hidden = !rows.length;
    for (const button of document.querySelectorAll("[data-concept]")) {
      button.setAttribute("aria-pressed", state.tracks.includes(Number(button.dataset.concept)));
    }
    tintText();
  }

  function layAxis() {
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((size) => words.length / size <= 11) ?? 2000;
    for (let at = 0; at < words.length; at += step) {
      $("axis").append(make("span", { style: { left: `${(100 * (at + (at ? 0.5 : 0))) / words.length}%` } }, String(at)));
    }
  }

  function layTime() {
    const steps = words.map((word) => (!word.isRead && word.event?.phase === "generation" ? word.event.step_ms : null));
    const isStep = (word) => !word.isRead && word.event?.phase === "generation";
    const lens = words.map((word) => (isStep(word) ? Math.min(word.event.lens_ms, steps[word.index] ?? Infinity) : 0));
    const most = Math.max(1e-9, ...steps.map((ms, x) => ms ?? lens[x]));
    const host = steps.map((ms, x) => (ms === null ? 0 : ms - lens[x]));
    const percent = (values) => values.map((value) => (100 * value) / most);
    const tiers = words.map((word) => word.event?.tiers ?? [0, 0, 0]);
    const widest = Math.max(1, ...tiers.map(([hot, warm, cold]) => hot + warm + cold));
    const fetched = tiers.map(([, warm, cold]) => (100 * (warm + cold)) / widest);
    const sum = (at) => data.events.reduce((total, event) => total + event.tiers[at], 0).toLocaleString("en");
    const key = (colour) => make("span", { className: "key", style: { background: `var(--${colour})` } });
    $("time-said").textContent = data.time ? `${data.time.said}; the prompt took ${data.time.prompt_ms.toFixed(0)} ms.` : "";
    const low = strip({ first: fetched, second: tiers.map(([hot]) => (100 * hot) / widest) });
    low.classList.add("low");
    $("time").append(
      strip({ first: percent(lens), second: percent(host) }),
      make("p", { className: "caption" },
        make("span", {}, key("bar-strong"), "lenses", ...(data.time ? [" ", key("bar"), "host"] : [])),
        make("span", {}, `milliseconds a word after the prompt; the highest bar is ${most.toFixed(1)} ms`)),
      low,
      make("p", { className: "caption" },
        make("span", {}, key("bar-strong"), `fetched: ${sum(1)} warm, ${sum(2)} cold `, key("bar"), `ready: ${sum(0)} hot`),
        make("span", {}, `families opened a word, at most ${widest}`)));
  }

  // What is active at the word that is shown.

  function conceptButton(concept, value, share, title) {
    return make("button", {
      type: "button", className: `concept${trust(concept)}`, title, "aria-pressed": state.tracks.includes(concept), data: { concept },
      style: { "--c": colour(concept) },
    },
    make("span", { className: "line" }, make("span", { className: "label" }, names[concept]), make("span", { className: "value" }, value)),
    make("span", { className: "gauge" }, make("i", { style: { width: `${(100 * share).toFixed(1)}%` } })),
    make("span", { className: "line" }, make("span", { className: "path", title: above(concept) }, above(concept, 34) || "top of the hierarchy"),
      make("span", { className: `grade ${data.concepts.grade[concept]}` }, graded(concept))));
  }

  function showTop(word) {
    const list = $("top");
    if (word === null) {
      const most = Math.max(1, ...byRank.map((concept) => leading[concept]));
      list.replaceChildren(...byRank.slice(0, 12).map((concept) => make("li", {},
        conceptButton(concept, plural(leading[concept], "word", "words"), leading[concept] / most, explained(concept)))));
    } else {
      const of = word.event?.of;
      list.replaceChildren(...(word.event?.top ?? []).map((concept) => make("li", {},
        conceptButton(concept, said(of[concept], concept), of[concept], explained(concept)))));
    }
    if (!list.children.length) list.append(make("li", { className: "said-not" }, "Nothing was scored here."));
  }

  function showHead(word) {
    $("release").hidden = word === null || state.selected === null;
    $("side-loud").hidden = !word?.event?.coverage[3] && !word?.event?.alarms.length;
    if (word === null) {
      $("side-kicker").textContent = "Over the whole text";
      $("side-title").textContent = "What was active";
      $("side-said").textContent = `Words at which a concept is among the most specific, from ${data.tint_from.toFixed(2)}; in the hierarchy, its peak and these words. Choose a word to see its own.`;
      return;
    }
    const event = word.event;
    $("side-kicker").textContent = `${word.isRead ? "Read" : "Written"}, position ${word.index}${state.pinned ? ", kept" : ""}`;
    $("side-title").textContent = called(word);
    if (!event) { $("side-said").textContent = "No event tells of this word."; return; }
    const [expected, scored, pending, failed, cut] = event.coverage;
    const origin = word.isRead ? "active as it was read" : `active before it was written, at position ${event.at}`;
    $("side-said").textContent = (event.state === "ok"
      ? [`${origin}; ${scored.toLocaleString("en")} of ${data.of.toLocaleString("en")} lenses scored`,
        cut ? `${plural(cut, "family", "families")} beyond the width` : "", pending ? `${pending} pending` : ""].filter(Boolean).join(", ") + "."
      : `Not scored: ${event.state}.`) + event.met.map((met) => ` Rule ${met}.`).join("");
    $("side-loud").textContent = [
      event.alarms.length ? `Alarm: ${event.alarms.map((concept) => `${names[concept]} ${said(event.of[concept], concept)}`).join(", ")}.` : "",
      failed ? `${failed} of ${expected} lenses could not be scored${event.failed.length ? `: those under ${event.failed.map((name) => name || "the top").join(", ")}` : ""}.` : "",
    ].filter(Boolean).join(" ");
  }

  /* The hierarchy: what is lit, with the way down to it; the rest of each family folded away until it is asked for. */
  const opened = new Set();
  const closed = new Set();
  const whole = new Set();

  function showTree(word) {
    const of = word === null ? peak : word.event?.of ?? new Float32Array(count).fill(NaN);
    const brightest = new Set((word === null ? byRank.slice(0, 24) : names.map((_, concept) => concept).filter((concept) => of[concept] >= data.tint_from)));
    const lit = new Uint8Array(count);
    for (const concept of brightest) for (const step of paths[concept]) lit[step] = 1;
    const node = (concept) => {
      const below = children[concept].filter((child) => !Number.isNaN(of[child]));
      const isOpen = below.length > 0 && (opened.has(concept) || (!closed.has(concept) && below.some((child) => lit[child])));
      const p = of[concept];
      const value = Number.isNaN(p) ? "not scored" : said(p, concept);
      const item = make("li", {}, make("div", { className: `node${trust(concept)}`, style: { "--c": colour(concept), "--a": Number.isNaN(p) ? 0 : p * p } },
        make("button", {
          type: "button", className: below.length ? "fold" : "fold leaf", "aria-expanded": isOpen,
          "aria-label": `${names[concept]}: ${plural(below.length, "concept", "concepts")} below`, data: { fold: concept },
        }, isOpen ? "▾" : "▸"),
        make("span", { className: "lamp" }),
        make("button", { type: "button", className: "name", title: `${explained(concept)}; ${graded(concept)}`, "aria-pressed": state.tracks.includes(concept), data: { concept } },
          make("span", { className: `label ${p >= data.tint_from ? "lit" : "dark"}` }, names[concept]),
          make("span", { className: "value" }, word === null && leading[concept] ? `${value} · ${leading[concept]}` : value))));
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
    const roots = tops.filter((concept) => !Number.isNaN(of[concept]) || lit[concept]);
    $("tree").replaceChildren(...(roots.length ? family(roots, -1) : [make("li", { className: "said-not" }, "Nothing was scored here.")]));
  }

  let painted, marked = [];
  function show() {
    const at = shown();
    const word = at === null ? null : words[at];
    showHead(word);
    if (painted !== at) { showTop(word); showTree(word); $("side").scrollTop = 0; painted = at; }
    for (const element of marked) { element.classList.remove("shown"); element.setAttribute("aria-selected", "false"); }
    marked = [at, state.selected].filter((index) => index !== null).map((index) => wordElements[index]);
    if (at !== null) wordElements[at].classList.add("shown");
    if (state.pinned) wordElements[state.selected].setAttribute("aria-selected", "true");
    document.body.classList.toggle("chosen", state.selected !== null);
    for (const cursor of document.querySelectorAll(".cursor")) cursor.setAttribute("x", at ?? -9);
  }

  // What people do.

  function focusWord(index, { scroll = true } = {}) {
    const at = Math.min(words.length - 1, Math.max(0, index));
    for (const element of $("text").querySelectorAll('[tabindex="0"]')) element.tabIndex = -1;
    wordElements[at].tabIndex = 0;
    wordElements[at].focus({ preventScroll: !scroll });
    if (scroll) wordElements[at].scrollIntoView({ block: "nearest" });
  }

  function choose(index, pinned) {
    state.selected = index;
    state.pinned = pinned && index !== null;
    show();
  }

  function release() {
    if (state.pinned) choose(state.selected, false);
    else choose(null, false);
  }

  function toggleTrack(concept) {
    const at = state.tracks.indexOf(concept);
    if (at < 0) state.tracks.push(concept);
    else state.tracks.splice(at, 1);
    layTracks();
    show();
  }

  /* The nearest word on the line above or below. */
  function acrossLines(from, direction) {
    const middle = (box) => (box.left + box.right) / 2;
    const start = wordElements[from].getBoundingClientRect();
    let best = from, line = null, distance = Infinity;
    for (let at = from + direction; at >= 0 && at < words.length; at += direction) {
      const box = wordElements[at].getBoundingClientRect();
      if (Math.abs(box.bottom - start.bottom) < start.height * 0.6) continue;
      line ??= box.bottom;
      if (Math.abs(box.bottom - line) > start.height * 0.6) break;
      const apart = Math.abs(middle(box) - middle(start));
      if (apart < distance) { best = at; distance = apart; }
    }
    return best;
  }

  const wordOf = (event) => { const element = event.target.closest?.(".w"); return element ? Number(element.dataset.word) : null; };
  const text = $("text");
  text.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse") { state.hover = wordOf(event); show(); } });
  text.addEventListener("pointerleave", () => { state.hover = null; show(); });
  text.addEventListener("focusin", (event) => { const at = wordOf(event); if (at !== null && !state.pinned) choose(at, false); });
  text.addEventListener("click", (event) => {
    const at = wordOf(event);
    if (at === null) return;
    const again = state.pinned && state.selected === at;
    focusWord(at, { scroll: false });
    choose(again ? null : at, !again);
    if (!again) wordElements[at].scrollIntoView({ block: "nearest" });
  });
  text.addEventListener("keydown", (event) => {
    const at = wordOf(event);
    if (at === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowLeft: () => at - 1, ArrowRight: () => at + 1, ArrowUp: () => acrossLines(at, -1), ArrowDown: () => acrossLines(at, 1),
      Home: () => 0, End: () => words.length - 1,
    };
    if (event.key in moves) focusWord(moves[event.key]());
    else if (event.key === "Enter" || event.key === " ") choose(at, !(state.pinned && state.selected === at));
    else return;
    event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && event.target !== $("search")) {
      event.preventDefault();
      $("search").focus();
      $("search").select();
    } else if (event.key === "Escape" && event.target !== $("search")) release();
  });
  $("release").addEventListener("click", () => { const at = state.selected; choose(null, false); focusWord(at, { scroll: false }); choose(null, false); });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { concept, remove, fold, whole: parent } = button.dataset;
    if (concept !== undefined) toggleTrack(Number(concept));
    if (remove !== undefined) { toggleTrack(Number(remove)); ($("tracks").querySelector(".remove") ?? $("search")).focus(); }
    if (fold !== undefined) {
      const isOpen = button.getAttribute("aria-expanded") === "true";
      (isOpen ? closed : opened).add(Number(fold));
      (isOpen ? opened : closed).delete(Number(fold));
      redrawTree(`[data-fold="${fold}"]`);
    }
    if (parent !== undefined) {
      if (!whole.delete(Number(parent))) whole.add(Number(parent));
      redrawTree(`[data-whole="${parent}"]`);
    }
  });

  function redrawTree(focus) {
    const at = shown();
    showTree(at === null ? null : words[at]);
    $("tree").querySelector(focus)?.focus();
  }

  for (const strips of [$("tracks"), $("time")]) {
    const at = (event) => {
      const svg = event.target.closest("svg");
      if (!svg) return null;
      const box = svg.getBoundingClientRect();
      return Math.min(words.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * words.length)));
    };
    strips.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") { state.hover = at(event); show(); } });
    strips.addEventListener("pointerleave", () => { state.hover = null; show(); });
    strips.addEventListener("click", (event) => { const index = at(event); if (index !== null) choose(index, true); });
  }

  // Tabs.

  const tabs = [$("tab-top"), $("tab-tree")];
  function openTab(tab) {
    for (const other of tabs) {
      other.setAttribute("aria-selected", other === tab);
      other.tabIndex = other === tab ? 0 : -1;
      $(other.getAttribute("aria-controls")).hidden = other !== tab;
    }
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

  // Search among the concepts that were seen.

  const search = $("search"), found = $("found");
  const haystack = names.map((_, concept) => `${names[concept]} ${ids[concept]} ${above(concept)}`.toLowerCase());
  let matches = [], active = -1;

  function look() {
    const query = search.value.trim().toLowerCase();
    const rank = (concept) => {
      const name = names[concept].toLowerCase();
      return name === query ? 0 : name.startsWith(query) ? 1 : name.includes(query) ? 2 : 3;
    };
    const height = (concept) => (Number.isNaN(peak[concept]) ? -1 : peak[concept]);
    matches = query ? names.map((_, concept) => concept).filter((concept) => haystack[concept].includes(query))
      .sort((a, b) => rank(a) - rank(b) || height(b) - height(a)).slice(0, 20) : [];
    active = matches.length ? 0 : -1;
    found.replaceChildren(...matches.map((concept, place) => make("li", { role: "option", id: `f${place}`, data: { found: concept }, style: { "--c": colour(concept) } },
      make("span", {}, make("span", { className: "swatch" }), names[concept]),
      make("span", { className: "value" }, state.tracks.includes(concept) ? "chosen" : Number.isNaN(peak[concept]) ? "not scored" : `peak ${said(peak[concept], concept)}`),
      make("span", { className: "path" }, `${above(concept) || "top of the hierarchy"} · ${graded(concept)}`))));
    if (query && !matches.length) found.append(make("li", { role: "option", className: "nothing", "aria-disabled": "true", "aria-selected": "false" }, "No concept of that name was seen."));
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
    toggleTrack(concept);
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
      if (search.value) { search.value = ""; look(); } else focusWord(state.selected ?? 0);
    }
  });
  found.addEventListener("pointerdown", (event) => {
    event.preventDefault(); // the field keeps the focus
    const item = event.target.closest("[data-found]");
    if (item) take(Number(item.dataset.found));
  });

  // Begin.

  const prompt = data.words.slice(0, data.prompt).join("").trim().replace(/\s+/g, " ");
  $("headline").textContent = prompt.length > 90 ? `${prompt.slice(0, 88)} …` : `${prompt} …`;
  $("byline").textContent = `${data.title} · ${plural(data.prompt, "token", "tokens")} read, ${plural(words.length - data.prompt, "token", "tokens")} written, ${count.toLocaleString("en")} concepts seen`;
  $("problems").append(...data.problems.map((problem) => make("p", {}, problem)));
  $("problems").hidden = !data.problems.length;
  $("facts").append(...data.facts.map(([heading, rows]) => definitions(heading, rows)));
  // Without a wish, the leading concepts of the leading branches: three of one branch would say the same thing thrice.
  const leaders = byRank.filter((concept, at) => byRank.findIndex((other) => top[other] === top[concept]) === at);
  state.tracks = data.tracks.length ? data.tracks : leaders.slice(0, 3);
  startTheme();
  layText();
  layLegend();
  layAxis();
  layTime();
  layTracks();
  if (wordElements.length) wordElements[0].tabIndex = 0;
  show();
})();
