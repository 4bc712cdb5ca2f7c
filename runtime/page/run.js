/* One text with its events, whole or growing: what was seen at each word, and what that comes to over all of them.

   An event has `of`, the probability of every concept, NaN where it was not scored: not scored is not zero. */
class Run {
  constructor(concepts, { title = "", planned = 0 } = {}) {
    const { count } = concepts;
    Object.assign(this, { concepts, title, planned });
    this.words = [];
    this.events = new Set();
    this.prompt = 0;
    this.time = null;
    this.facts = [];
    this.problems = [];
    this.isRunning = false;
    // True of the whole text, of every concept: its peak, and the words at which it is on, or among the most specific.
    this.peak = new Float32Array(count).fill(NaN);
    this.peakAt = new Int32Array(count).fill(-1);
    this.on = new Int32Array(count);
    this.leading = new Int32Array(count);
    this.tinted = new Map();
  }

  /* The run that a page's contents tell of. */
  static of(contents) {
    const concepts = new Concepts(contents);
    const run = new Run(concepts, { title: contents.title });
    const events = contents.events.map((event) => ({ ...event, of: unpacked(event, concepts.count) }));
    contents.words.forEach((text, at) => {
      const event = contents.event_of[at] < 0 ? null : events[contents.event_of[at]];
      run.add({ text, isRead: at < contents.prompt, mark: contents.marks[at], event });
    });
    Object.assign(run, { time: contents.time, facts: contents.facts, problems: contents.problems });
    return run;
  }

  /* How many words there will be room for. */
  get width() { return Math.max(1, this.words.length, this.planned); }

  add({ text, isRead, mark, event }) {
    const { tintFrom } = this.concepts;
    const word = { index: this.words.length, text, isRead, mark, event };
    this.words.push(word);
    if (isRead) this.prompt++;
    if (!event) return word;
    this.events.add(event);
    event.of.forEach((probability, concept) => {
      if (Number.isNaN(probability)) return;
      if (!(this.peak[concept] >= probability)) { this.peak[concept] = probability; this.peakAt[concept] = word.index; }
      if (probability >= tintFrom) this.on[concept]++;
    });
    for (const concept of event.top) if (event.of[concept] >= tintFrom) this.leading[concept]++;
    if (event.tint !== null) {
      const branch = this.concepts.top(event.tint);
      this.tinted.set(branch, (this.tinted.get(branch) ?? 0) + 1);
    }
    return word;
  }

  /* Concepts that are among the most specific anywhere, those first that are at most words. */
  get byRank() {
    const { leading, peak } = this;
    return this.concepts.all.filter((concept) => leading[concept])
      .sort((a, b) => leading[b] - leading[a] || peak[b] - peak[a] || a - b);
  }

  /* The leading concepts of the leading branches: three of one branch would say the same thing thrice. */
  leaders(most) {
    const ranked = this.byRank, { concepts } = this;
    return ranked.filter((concept, at) => ranked.findIndex((other) => concepts.top(other) === concepts.top(concept)) === at).slice(0, most);
  }

  called(word) { return word.text.trim() ? `“${word.text.trim()}”` : word.mark ?? "white space"; }

  /* The prompt as a headline. */
  get headline() {
    const prompt = this.words.slice(0, this.prompt).map((word) => word.text).join("").trim().replace(/\s+/g, " ");
    return prompt.length > 90 ? `${prompt.slice(0, 88)} …` : `${prompt} …`;
  }
}

/* All probabilities of an event as a page's contents pack them: runs of neighbours, 16 bits each. */
function unpacked({ p, runs }, count) {
  const bytes = atob(p);
  const of = new Float32Array(count).fill(NaN);
  let at = 0;
  for (let run = 0; run < runs.length; run += 2) {
    for (let step = 0; step < runs[run + 1]; step++, at += 2) {
      of[runs[run] + step] = (bytes.charCodeAt(at) + 256 * bytes.charCodeAt(at + 1)) / 65535;
    }
  }
  return of;
}
