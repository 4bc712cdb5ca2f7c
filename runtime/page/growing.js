/* A run that grows by what the server tells of it: words, and events made of their logits. */

/* Numbers of the 65,536 halves that there are. */
let halves = null;
function half(bits) {
  halves ??= Float32Array.from({ length: 65536 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return exponent ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024) : sign * 2 ** -24 * fraction;
  });
  return halves[bits];
}

/* Control characters as they are spelled in the other views. */
const visible = (text) => text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]/g, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);

class GrowingRun extends Run {
  constructor(concepts, start, { planned, title }) {
    super(concepts, { planned, title });
    this._start = start;
    this._numbers = new Map(concepts.ids.map((id, number) => [id, number]));
    this._began = this._first = this._last = null;
    this._steps = 0;
    this.isRunning = true;
  }

  /* The prompt, as the run that there is to show until its events come. */
  begin({ words, marks }) {
    this._read = words.map((text, at) => ({ text, isRead: true, mark: marks[at], event: null }));
    this._began = performance.now();
    const read = new Run(this.concepts, { planned: this.planned, title: this.title });
    for (const word of this._read) read.add(word);
    return read;
  }

  get written() { return this.words.length - this.prompt; }

  /* Chunks of the stream that came together; the time since the last ones is theirs in equal shares,
     and that of those that came with the first is not known. */
  take(choices) {
    const now = performance.now();
    if (this._read) this.time = { prompt_ms: now - this._began, rest: "all else, on its way here too", said: "" };
    const stepMs = this._last === null ? null : (now - this._last) / choices.length;
    for (const choice of choices) this._take(choice, stepMs);
    this._last = now;
    this._first ??= now;
    if (this._steps) this.time.said = `${((now - this._first) / this._steps).toFixed(1)} ms a token as they came`;
  }

  _take(choice, stepMs) {
    const [entry] = choice.lenses?.content ?? [];
    const isToken = entry !== undefined, text = choice.text ?? choice.delta?.content ?? "";
    if (this._read) {
      // The last word of the prompt is told of by the entry of what follows it.
      const events = [...(choice.lenses?.prompt ?? []), entry].map((one) => this._event(one, null));
      this._read.forEach((word, at) => this.add({ ...word, event: events[at] ?? null }));
      this._read = null;
      if (isToken) this._write(text, entry, events.at(-1));
    } else if (isToken) {
      this._write(text, entry, this._event(entry, stepMs));
      if (stepMs !== null) this._steps++;
    } else if (text) this._write(text, null, null);
    if (choice.finish_reason) this.finished = choice.stop_reason ?? { stop: "the text is over", length: "as many tokens as were asked for" }[choice.finish_reason];
  }

  /* The end, whatever it was: nothing comes any more. */
  end(why) {
    this.finished ??= why;
    this._read?.forEach((word) => this.add(word));
    this._read = null;
    this.planned = 0;
    this.isRunning = false;
  }

  _write(text, entry, event) {
    const mark = text ? undefined : this._start.special[entry?.token] ?? "…"; // a part of a character
    this.add({ text: visible(text), isRead: false, mark, event });
  }

  /* An event as a page's contents have it, of an entry that has all logits as halves. */
  _event(entry, stepMs) {
    if (!entry) return null;
    const { concepts } = this, { slope, offset } = this._start.concepts;
    const bytes = atob(entry.vector), of = new Float32Array(concepts.count).fill(NaN), odds = new Float64Array(concepts.count);
    const scored = [];
    for (let concept = 0; concept < concepts.count; concept++) {
      const logit = half(bytes.charCodeAt(2 * concept) + 256 * bytes.charCodeAt(2 * concept + 1));
      if (Number.isNaN(logit)) continue;
      odds[concept] = slope[concept] * logit + offset[concept];
      of[concept] = 1 / (1 + Math.exp(-odds[concept]));
      scored.push(concept);
    }
    const covered = new Set(scored.filter((concept) => of[concept] >= of[concepts.parents[concept]]).map((concept) => concepts.parents[concept]));
    const ranked = scored.sort((a, b) => odds[b] - odds[a] || (concepts.ids[a] < concepts.ids[b] ? -1 : 1));
    const strongest = ranked.find((concept) => concepts.isVouched(concept));
    for (const [id, probability] of Object.entries(entry.track ?? {})) {
      const concept = this._numbers.get(id);
      if (probability !== null && Number.isNaN(of[concept])) of[concept] = probability;
    }
    const { expected, scored: count, pending, failed, cut } = entry.coverage;
    const run = entry.run ?? { hot: 0, warm: 0, cold: 0, ms: 0 };
    return {
      at: entry.position, phase: entry.phase, state: entry.state, of,
      top: ranked.filter((concept) => !covered.has(concept)).slice(0, this._start.listed),
      tint: strongest !== undefined && of[strongest] >= concepts.tintFrom ? strongest : null,
      coverage: [expected, count, pending, failed, cut],
      failed: entry.failed_families ?? [],
      alarms: (entry.alarms ?? []).map(({ id }) => this._numbers.get(id)),
      met: (entry.rules ?? []).map(({ rule, run: length, stops }) => `${stops ? "stopped by" : "met"}: ${rule}${length > 1 ? `, ${length} in a row` : ""}`),
      tiers: [run.hot, run.warm, run.cold], lens_ms: run.ms, step_ms: stepMs,
    };
  }
}
