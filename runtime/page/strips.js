/* What runs along the text: chosen concepts, time, and where families came from. A unit of width is a word. */

/* One strip of bars. Bars are in units of their own, as high as the strip where they reach `most`. */
class Strip {
  constructor(run, { isHalved = false } = {}) {
    const { width } = run;
    this.svg = $("strip").content.firstElementChild.cloneNode(true);
    this.svg.setAttribute("viewBox", `0 0 ${width} 100`);
    this._gap = Math.min(0.12, width / 2000);
    this._pens = {};
    this._set(".prompt", { x: 0, y: 0, width: run.prompt, height: 100 });
    if (isHalved) this._set(".half", { x1: 0, x2: width, y1: 50, y2: 50 });
    else this.svg.querySelector(".half").remove();
    this._set(".cursor", { x: -9, y: 0, width: 1, height: 100 });
    this.scale(1);
  }

  scale(most) {
    for (const group of this.svg.querySelectorAll("g")) group.setAttribute("transform", `matrix(1 0 0 ${-100 / most} 0 100)`);
  }

  /* The bar of a word, another one on top of it; missing: a dash. */
  add(x, first, second = 0, isMissing = false) {
    if (first > 0) this._draw("bars", this._bar(x, 0, first));
    if (second > 0) this._draw("more", this._bar(x, first, second));
    if (isMissing) this._draw("none", `M${x + 0.3} 95h0.4v3h-0.4z`);
  }

  _bar(x, from, height) {
    const gap = this._gap;
    return `M${(x + gap).toFixed(3)} ${from.toFixed(4)}h${(1 - 2 * gap).toFixed(3)}v${height.toFixed(4)}h${(2 * gap - 1).toFixed(3)}z`;
  }

  /* A path is drawn anew when it grows, so long ones are left alone and followed by another. */
  _draw(name, shape) {
    const pen = (this._pens[name] ??= { path: this.svg.querySelector(`.${name}`), drawn: "", bars: 0 });
    if (pen.bars === 128) {
      const next = pen.path.cloneNode();
      pen.path.after(next);
      Object.assign(pen, { path: next, drawn: "", bars: 0 });
    }
    pen.drawn += shape;
    pen.bars++;
    pen.path.setAttribute("d", pen.drawn);
  }

  _set(selector, attributes) {
    for (const [name, value] of Object.entries(attributes)) this.svg.querySelector(selector).setAttribute(name, value);
  }
}

function makeTracks(view) {
  let tracks = [], drawn = 0;

  function said({ concept, element }) {
    const { concepts, run } = view;
    const at = run.peakAt[concept];
    const best = at < 0 ? (run.words.length ? "never scored" : "") : `peak ${concepts.said(run.peak[concept], concept)} at ${run.called(run.words[at])}`;
    element.querySelector(".peak").textContent = best;
    element.setAttribute("aria-label", `${concepts.names[concept]}: ${best}, ${plural(run.on[concept], "word", "words")} from ${concepts.tintFrom.toFixed(2)}`);
  }

  function trackOf(concept) {
    const { concepts, run } = view;
    const strip = new Strip(run, { isHalved: true });
    strip.svg.style.setProperty("--c", concepts.colour(concept));
    strip.svg.classList.toggle("unsure", !concepts.isVouched(concept));
    const element = make("div", { className: "track", role: "group", data: { track: concept } },
      make("div", { className: "track-head", style: { "--c": concepts.colour(concept) } },
        make("span", { title: concepts.explained(concept) }, make("span", { className: "swatch" }), make("span", { className: "label" }, concepts.names[concept])),
        make("span", { className: "path" }, [concepts.above(concept, 60), concepts.graded(concept)].filter(Boolean).join(" · ")),
        make("span", { className: "peak" }),
        make("button", { type: "button", className: "remove", "aria-label": `Remove ${concepts.names[concept]}`, data: { remove: concept } }, "×")),
      strip.svg);
    return { concept, strip, element };
  }

  function draw({ concept, strip }, from) {
    for (const word of view.run.words.slice(from)) {
      const probability = word.event ? word.event.of[concept] : NaN;
      strip.add(word.index, probability >= 0 ? probability : 0, 0, Number.isNaN(probability));
    }
  }

  function layAxis() {
    const { width } = view.run;
    const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((size) => width / size <= 11) ?? 2000;
    const marks = [];
    for (let at = 0; at < width; at += step) marks.push(make("span", { style: { left: `${(100 * (at + (at ? 0.5 : 0))) / width}%` } }, String(at)));
    $("axis").replaceChildren(...marks);
  }

  return {
    lay() {
      tracks = view.state.tracks.map(trackOf);
      drawn = view.run.words.length;
      for (const track of tracks) { draw(track, 0); said(track); }
      $("tracks").replaceChildren(...(tracks.length ? tracks.map(({ element }) => element) : [make("p", { className: "empty" }, "No concept is chosen.")]));
      $("axis").hidden = !tracks.length;
      layAxis();
      for (const button of document.querySelectorAll("[data-concept]")) {
        button.setAttribute("aria-pressed", view.state.tracks.includes(Number(button.dataset.concept)));
      }
    },

    grow() {
      for (const track of tracks) { draw(track, drawn); said(track); }
      drawn = view.run.words.length;
    },
  };
}

function makeTime(view) {
  let times, tiers, drawn, most, widest, sums;
  const key = (colour) => make("span", { className: "key", style: { background: `var(--${colour})` } });

  function add(word) {
    const { event, isRead, index } = word;
    if (!event) return;
    if (!isRead && event.phase === "generation") {
      const lens = Math.min(event.lens_ms, event.step_ms ?? Infinity);
      const rest = event.step_ms === null ? 0 : event.step_ms - lens;
      most = Math.max(most, lens + rest);
      times.add(index, lens, rest);
    }
    const [hot, warm, cold] = event.tiers;
    widest = Math.max(widest, hot + warm + cold);
    tiers.add(index, warm + cold, hot);
  }

  function say() {
    const { time } = view.run;
    times.scale(Math.max(1e-9, most));
    tiers.scale(widest);
    $("time-said").textContent = time ? [time.said, time.prompt_ms === null ? "" : `the prompt took ${time.prompt_ms.toFixed(0)} ms`].filter(Boolean).join("; ") + "." : "";
    const sum = (at) => sums[at].toLocaleString("en");
    $("time-key").replaceChildren(
      make("span", {}, key("bar-strong"), "lenses", ...(time ? [" ", key("bar"), time.rest ?? "host"] : [])),
      make("span", {}, `milliseconds a word after the prompt; the highest bar is ${most.toFixed(1)} ms`));
    $("tiers-key").replaceChildren(
      make("span", {}, key("bar-strong"), `fetched: ${sum(1)} warm, ${sum(2)} cold `, key("bar"), `ready: ${sum(0)} hot`),
      make("span", {}, `families opened a word, at most ${widest}`));
  }

  function grow() {
    const { run } = view;
    for (const word of run.words.slice(drawn)) add(word);
    drawn = run.words.length;
    sums = [0, 1, 2].map((at) => [...run.events].reduce((total, event) => total + event.tiers[at], 0));
    say();
  }

  return {
    lay() {
      [times, tiers, drawn, most, widest] = [new Strip(view.run), new Strip(view.run), 0, 0, 1];
      tiers.svg.classList.add("low");
      $("time").replaceChildren(times.svg, make("p", { className: "caption", id: "time-key" }), tiers.svg, make("p", { className: "caption", id: "tiers-key" }));
      grow();
    },
    grow,
  };
}
