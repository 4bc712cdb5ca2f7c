/* The page of one watched generation. */
(() => {
  const contents = embedded();
  const run = Run.of(contents);
  const { concepts } = run;
  const written = run.words.length - run.prompt;
  $("headline").textContent = run.headline;
  $("byline").textContent = `${run.title} · ${plural(run.prompt, "token", "tokens")} read, ${plural(written, "token", "tokens")} written, ${concepts.count.toLocaleString("en")} concepts seen`;
  $("problems").append(...run.problems.map((problem) => make("p", {}, problem)));
  $("problems").hidden = !run.problems.length;
  $("facts").append(...run.facts.map(([heading, rows]) => definitions(heading, rows)));
  startTheme();
  // Without a wish, those that lead.
  makeView().open(run, contents.tracks.length ? contents.tracks : run.leaders(3));
})();
