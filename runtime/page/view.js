/* A run on the page: its words, what is active at each, and how that runs along the text.

   `shown` is the word that everything else follows: the one that is kept, pointed at, or chosen; else the newest one while
   the text is being written; null stands for the whole text.

   open(run, tracks)   another run: everything is laid anew
   grow()              words have been added to it: these alone are laid
   finish()            no more will be */
function makeView() {
  const view = {
    run: null,
    get concepts() { return view.run.concepts; },
    state: { hover: null, selected: null, pinned: false, tracks: [] },
    shown, shownWord, isFollowing, lightsOf, toggleTrack, focusWord, show, open, grow, finish, setTracks,
    onTracks: () => {}, // of what somebody chose
  };
  const { state } = view;
  const text = makeText(view), tracks = makeTracks(view), time = makeTime(view), side = makeSide(view), map = makeMap(view), search = makeSearch(view);

  function isFollowing() { return !state.pinned && state.hover === null && state.selected === null && view.run.isRunning && view.run.words.length > 0; }
  function shown() {
    if (state.pinned) return state.selected;
    return state.hover ?? state.selected ?? (isFollowing() ? view.run.words.length - 1 : null);
  }
  function shownWord() { const at = shown(); return at === null ? null : view.run.words[at]; }
  function lightsOf(word) { return word === null ? view.run.peak : word.event?.of ?? new Float32Array(view.concepts.count).fill(NaN); }

  let painted, marked = [];
  function show() {
    const at = shown(), word = shownWord(), elements = text.elements();
    side.showHead(word);
    if (painted !== at) {
      side.show(word);
      map.light();
      if (!isFollowing()) $("side").scrollTop = 0;
      painted = at;
    }
    for (const element of marked) { element.classList.remove("shown"); element.setAttribute("aria-selected", "false"); }
    marked = [at, state.selected].filter((index) => index !== null).map((index) => elements[index]);
    if (at !== null) elements[at].classList.add("shown");
    if (state.pinned) elements[state.selected].setAttribute("aria-selected", "true");
    document.body.classList.toggle("chosen", state.selected !== null);
    for (const cursor of document.querySelectorAll(".cursor")) cursor.setAttribute("x", at ?? -9);
  }

  function repaint() { painted = undefined; show(); }

  function open(run, chosen) {
    view.run = run;
    Object.assign(state, { hover: null, selected: null, pinned: false, tracks: chosen });
    marked = [];
    text.open();
    side.open();
    text.grow();
    text.layLegend();
    time.lay();
    setTracks(chosen);
    search.open();
    map.open();
    repaint();
  }

  function grow() {
    text.grow();
    tracks.grow();
    time.grow();
    show();
  }

  /* Strips end where the text does. */
  function finish() {
    text.grow();
    text.layLegend();
    time.lay();
    setTracks(state.tracks);
    repaint();
  }

  function setTracks(chosen) {
    state.tracks = chosen;
    tracks.lay();
    text.tintAll();
    if (view.run.words.length) show();
  }

  // What people do.

  function focusWord(index, { scroll = true } = {}) {
    const elements = text.elements();
    if (!elements.length) return;
    const at = Math.min(elements.length - 1, Math.max(0, index));
    for (const element of $("text").querySelectorAll('[tabindex="0"]')) element.tabIndex = -1;
    elements[at].tabIndex = 0;
    elements[at].focus({ preventScroll: !scroll });
    if (scroll) elements[at].scrollIntoView({ block: "nearest" });
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
    setTracks(state.tracks.includes(concept) ? state.tracks.filter((other) => other !== concept) : [...state.tracks, concept]);
    map.layWay();
    show();
    view.onTracks(state.tracks);
  }

  /* The nearest word on the line above or below. */
  function acrossLines(from, direction) {
    const elements = text.elements();
    const middle = (box) => (box.left + box.right) / 2;
    const start = elements[from].getBoundingClientRect();
    let best = from, line = null, distance = Infinity;
    for (let at = from + direction; at >= 0 && at < elements.length; at += direction) {
      const box = elements[at].getBoundingClientRect();
      if (Math.abs(box.bottom - start.bottom) < start.height * 0.6) continue;
      line ??= box.bottom;
      if (Math.abs(box.bottom - line) > start.height * 0.6) break;
      const apart = Math.abs(middle(box) - middle(start));
      if (apart < distance) { best = at; distance = apart; }
    }
    return best;
  }

  const wordOf = (event) => { const element = event.target.closest?.(".w"); return element ? Number(element.dataset.word) : null; };
  const field = $("text");
  field.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse") { state.hover = wordOf(event); show(); } });
  field.addEventListener("pointerleave", () => { state.hover = null; show(); });
  field.addEventListener("focusin", (event) => { const at = wordOf(event); if (at !== null && !state.pinned) choose(at, false); });
  field.addEventListener("click", (event) => {
    const at = wordOf(event);
    if (at === null) return;
    const again = state.pinned && state.selected === at;
    focusWord(at, { scroll: false });
    choose(again ? null : at, !again);
    if (!again) text.elements()[at].scrollIntoView({ block: "nearest" });
  });
  field.addEventListener("keydown", (event) => {
    const at = wordOf(event);
    if (at === null || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowLeft: () => at - 1, ArrowRight: () => at + 1, ArrowUp: () => acrossLines(at, -1), ArrowDown: () => acrossLines(at, 1),
      Home: () => 0, End: () => view.run.words.length - 1,
    };
    if (event.key in moves) focusWord(moves[event.key]());
    else if (event.key === "Enter" || event.key === " ") choose(at, !(state.pinned && state.selected === at));
    else return;
    event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches?.("input:not([type=checkbox]), textarea, select");
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !isTyping) {
      event.preventDefault();
      $("search").focus();
      $("search").select();
    } else if (event.key === "Escape" && !isTyping && view.run) release();
  });
  $("release").addEventListener("click", () => { const at = state.selected; choose(null, false); focusWord(at, { scroll: false }); choose(null, false); });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { concept, remove, fold, whole, walk } = button.dataset;
    if (concept !== undefined) toggleTrack(Number(concept));
    if (remove !== undefined) { toggleTrack(Number(remove)); ($("tracks").querySelector(".remove") ?? $("search")).focus(); }
    if (fold !== undefined) side.fold(Number(fold), button.getAttribute("aria-expanded") === "true");
    if (whole !== undefined) side.toggleWhole(Number(whole));
    if (walk !== undefined) map.walk(Number(walk), true);
  });

  for (const strips of [$("tracks"), $("time")]) {
    const at = (event) => {
      const svg = event.target.closest("svg");
      if (!svg) return null;
      const box = svg.getBoundingClientRect();
      const index = Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * view.run.width));
      return index < view.run.words.length ? index : null;
    };
    strips.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") { state.hover = at(event); show(); } });
    strips.addEventListener("pointerleave", () => { state.hover = null; show(); });
    strips.addEventListener("click", (event) => { const index = at(event); if (index !== null) choose(index, true); });
  }

  return view;
}
