/* The page of a server: a prompt is typed, and the text is watched while it is written. */
(() => {
  const server = new Server();
  const view = makeView();
  let start = null, concepts = null; // of the host and pack that are served
  let live = null; // the last run of this page
  let recording = null; // what was opened, and stands before it
  let chosen = null; // concepts that somebody chose to see along the text; null: those that lead
  let messages = []; // of the chat so far
  let stopping = null;

  // Settings.

  const settings = () => {
    const number = (id) => ($(id).value.trim() === "" ? null : Number($(id).value));
    return {
      max_tokens: number("max-tokens"), temperature: number("temperature"), seed: number("seed"), alarm_budget: number("alarm-budget"),
      rules: $("rules").value.split("\n").map((rule) => rule.trim()).filter(Boolean),
    };
  };
  const isChat = () => $("composer").elements.manner.value === "chat";

  function saySettings() {
    $("prompt").placeholder = isChat() ? "What do you say?" : "How does the text begin?";
    const { max_tokens, temperature, seed, alarm_budget, rules } = settings();
    $("settings-button").textContent = [
      plural(max_tokens ?? 0, "token", "tokens"),
      temperature ? `temperature ${temperature}${seed === null ? "" : `, seed ${seed}`}` : "most probable",
      alarm_budget === null ? "" : `alarms ${alarm_budget}`,
      rules.length ? plural(rules.length, "rule", "rules") : "",
    ].filter(Boolean).join(" · ");
    $("settings-button").setAttribute("aria-label", `Settings: ${$("settings-button").textContent}`);
  }

  // What is going on.

  function complain(...problems) {
    $("problems").replaceChildren(...problems.map((problem) => make("p", {}, problem)));
    $("problems").hidden = !problems.length;
  }

  const say = (text) => { $("status").textContent = text; };

  function setRunning(isRunning) {
    $("stop").hidden = !isRunning;
    $("write").hidden = isRunning;
    document.body.classList.toggle("running", isRunning);
  }

  function showFacts(run) {
    const own = run.isRunning || !run.asked ? [] : [["Run", [
      ["host", start.server.model],
      ["tokens", `${run.prompt.toLocaleString("en")} read, ${run.written.toLocaleString("en")} generated`],
      ["sampling", `temperature ${run.asked.temperature}, seed ${run.asked.seed}`],
      ["ended", run.finished],
      ["coverage", coverageOf(run)],
    ]]];
    $("facts").replaceChildren(...[...own, ...run.facts].map(([heading, rows]) => definitions(heading, rows)));
  }

  function coverageOf(run) {
    const sum = (at) => [...run.events].reduce((total, event) => total + event.coverage[at], 0).toLocaleString("en");
    return `${sum(0)} lenses expected, ${sum(1)} scored, ${sum(2)} pending, ${sum(3)} failed`;
  }

  // Writing.

  /* Growing is shown once a picture, however fast the words come. */
  let isDue = false;
  function growSoon() {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; if (!recording && live.isRunning) grow(); });
  }

  function grow() {
    const isAtEnd = $("text").scrollTop + $("text").clientHeight >= $("text").scrollHeight - 8;
    view.grow();
    if (chosen === null && live.written > 3) {
      const leaders = live.leaders(3);
      if (view.state.tracks.length < leaders.length) view.setTracks([...new Set([...view.state.tracks, ...leaders])].slice(0, 3));
    }
    if (isAtEnd) $("text").scrollTop = $("text").scrollHeight;
  }

  async function write() {
    const prompt = $("prompt").value;
    if (!start || live?.isRunning || (!prompt.trim())) return;
    if (!$("composer").reportValidity()) { $("settings").hidden = false; return; }
    const asked = settings();
    asked.seed ??= crypto.getRandomValues(new Uint32Array(1))[0]; // one of the server's has more digits than a number here
    const said = isChat() ? [...messages, { role: "user", content: prompt }] : null;
    const run = new GrowingRun(concepts, start, { planned: 0, title: start.title });
    run.asked = asked;
    run.facts = start.facts;
    stopping = new AbortController();
    const { signal } = stopping;
    live = run;
    recording = null;
    complain();
    setRunning(true);
    say("Reading");
    $("opened").hidden = true;
    try {
      const read = await server.json("page/words", { body: said ? { messages: said } : { prompt }, signal });
      run.planned = Math.min(read.tokens.length + asked.max_tokens, start.server.context);
      view.open(run.begin(read), chosen ?? []);
      const lenses = { show: 0, vectors: true, run: true, prompt: true, track: (chosen ?? []).map((concept) => concepts.ids[concept]), rules: asked.rules };
      if (asked.alarm_budget !== null) lenses.alarm_budget = asked.alarm_budget;
      const body = { stream: true, max_tokens: asked.max_tokens, temperature: asked.temperature, seed: asked.seed, lenses, ...(said ? { messages: said } : { prompt: read.tokens }) };
      let isFirst = true;
      for await (const told of server.stream(said ? "v1/chat/completions" : "v1/completions", { body, signal })) {
        if (!told.length) continue;
        run.take(told.flatMap(({ choices }) => choices));
        if (!isFirst) growSoon();
        else if (!recording) view.open(run, chosen ?? []);
        if (isFirst) say("Writing");
        isFirst = false;
      }
      run.end("the stream was cut off");
    } catch (error) {
      run.end(signal.aborted ? "stopped here" : "an error");
      if (!signal.aborted) fail(error);
    }
    const answer = run.words.slice(run.prompt).map((word) => word.text).join("");
    if (said && run.written) {
      messages = [...said, { role: "assistant", content: answer.trim() }];
      $("prompt").value = "";
      $("anew").hidden = false;
    }
    setRunning(false);
    say(run.words.length ? `${plural(run.written, "token", "tokens")}; ${run.finished}` : "");
    if (recording) return;
    if (view.run !== run) view.open(run, chosen ?? []);
    if (chosen === null) view.state.tracks = run.leaders(3);
    view.finish();
    showFacts(run);
  }

  function fail(error) {
    if (error instanceof Refused && error.status === 401) askForToken();
    else complain(error instanceof Refused ? error.message : "The server cannot be reached.");
  }

  // Recordings.

  const COLOUR = /^#[0-9a-f]{6}$/;

  async function contentsOf(file) {
    if (!/\.html?$/i.test(file.name)) return server.json("page/recording", { body: file });
    const block = (await file.text()).match(/<script type="application\/json" id="data">([^<]*)<\/script>/); // JSON without `<`
    return JSON.parse(block?.[1] ?? "null");
  }

  async function openFile(file) {
    complain();
    let contents;
    try {
      contents = await contentsOf(file);
      if (!Object.values(contents.colours).every((colour) => COLOUR.test(colour))) throw new TypeError("a colour is none");
      recording = Run.of(contents);
    } catch (error) {
      if (error instanceof Refused) fail(error);
      else complain(`${file.name} is no recording, nor a page of one that phoropter has written.`);
      return;
    }
    view.open(recording, contents.tracks.length ? contents.tracks : recording.leaders(3));
    $("opened-title").textContent = `${recording.headline} ${recording.title}`;
    $("opened").hidden = false;
    complain(...recording.problems);
    showFacts(recording);
    $("close").focus();
  }

  function closeFile() {
    recording = null;
    $("opened").hidden = true;
    complain();
    view.open(live, chosen ?? live.leaders(3));
    showFacts(live);
    $("prompt").focus();
  }

  // Beginning.

  function askForToken() {
    $("access").hidden = false;
    $("composer").hidden = true;
    complain(...(server.token ? ["This is not the token of the server."] : []));
    server.token = "";
    $("token").focus();
  }

  async function begin() {
    try {
      start = await server.json("page/start");
    } catch (error) {
      fail(error);
      return;
    }
    $("access").hidden = true;
    $("composer").hidden = false;
    concepts = new Concepts(start);
    live = new Run(concepts, { title: start.title });
    live.facts = start.facts;
    $("byline").textContent = `${start.title} · ${plural(concepts.count, "concept", "concepts")}`;
    $("manner").hidden = !start.server.has_chat;
    $("max-tokens").max = start.server.new_tokens;
    $("max-tokens").value = Math.min(80, start.server.new_tokens);
    saySettings();
    $("prompt").disabled = $("write").disabled = false;
    view.open(live, []);
    showFacts(live);
    $("prompt").focus();
  }

  $("headline").textContent = "Watch a model write";
  document.body.classList.add("live");
  startTheme();
  // Before there is anything to choose from, nothing was chosen.
  view.onTracks = (tracks) => { if (!recording) chosen = tracks; };

  $("composer").addEventListener("submit", (event) => { event.preventDefault(); write(); });
  $("composer").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); write(); }
  });
  $("composer").addEventListener("input", saySettings);
  $("stop").addEventListener("click", () => { stopping.abort(); $("prompt").focus(); });
  $("settings-button").addEventListener("click", () => {
    $("settings").hidden = !$("settings").hidden;
    $("settings-button").setAttribute("aria-expanded", !$("settings").hidden);
  });
  $("anew").addEventListener("click", () => { messages = []; $("anew").hidden = true; $("prompt").focus(); });
  $("access").addEventListener("submit", (event) => { event.preventDefault(); server.token = $("token").value.trim(); $("token").value = ""; begin(); });
  $("file").addEventListener("change", () => { const [file] = $("file").files; $("file").value = ""; if (file) openFile(file); });
  $("close").addEventListener("click", closeFile);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && live?.isRunning) stopping.abort(); });
  begin();
})();
