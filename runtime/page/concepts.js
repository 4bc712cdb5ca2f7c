/* What is known of concepts whatever the text: names, places in the hierarchy, colours, and how good a lens is. */
class Concepts {
  constructor({ concepts, colours, grades, tint_from, measured_from, of }) {
    const { name, parent, id, calibrated, vouched, grade, auroc, positives } = concepts;
    Object.assign(this, { names: name, parents: parent, ids: id, grades, grade, auroc, positives, of });
    this.tintFrom = tint_from;
    this.measuredFrom = measured_from;
    this.count = name.length;
    this.all = name.map((_, concept) => concept);
    this.children = name.map(() => []);
    this.tops = [];
    parent.forEach((above, concept) => (above < 0 ? this.tops : this.children[above]).push(concept));
    this.paths = []; // a parent comes before its children
    parent.forEach((above, concept) => this.paths.push(above < 0 ? [concept] : [...this.paths[above], concept]));
    this.below = new Int32Array(this.count);
    for (const path of this.paths) for (const step of path.slice(0, -1)) this.below[step]++;
    this._colours = colours;
    this._calibrated = calibrated;
    this._vouched = vouched;
  }

  top(concept) { return this.paths[concept][0]; }

  colour(concept) { return this._colours[this.top(concept)]; }

  /* The way down to a concept; where that is longer than `most` letters the middle goes first. */
  above(concept, most = Infinity) {
    const steps = this.paths[concept].slice(0, -1).map((index) => this.names[index]);
    let kept = steps;
    for (let dropped = 1; kept.join(" › ").length > most && dropped < steps.length - 1; dropped++) {
      kept = [steps[0], "…", ...steps.slice(1 + dropped)];
    }
    return kept.join(" › ");
  }

  /* Nothing vouches for a lens that was not measured or is not calibrated: it is marked, pale, and gives no colour. */
  isVouched(concept) { return this._vouched[concept] === "1"; }

  get anyVouched() { return this._vouched.includes("1"); }

  trust(concept) { return this.isVouched(concept) ? "" : " unsure"; }

  said(probability, concept) {
    return Number.isNaN(probability) ? "not scored" : probability.toFixed(2) + (this.isVouched(concept) ? "" : "?");
  }

  graded(concept) {
    if (this.grade[concept] === "unmeasured") return "unmeasured";
    // Rounded up, it could be that of a better grade.
    return `${this.grade[concept]}, AUROC ${(Math.floor(100 * this.auroc[concept]) / 100).toFixed(2)}`;
  }

  explained(concept) {
    return [
      this.ids[concept],
      this._calibrated[concept] === "1" ? "" : "not calibrated",
      this.positives[concept] === null ? "" : plural(this.positives[concept], "held-out text", "held-out texts"),
    ].filter(Boolean).join("; ");
  }
}
