"""The reference's experiments, again: what the programs `sweep_*`, `compare_*`, `ablate_*` and `measure_*` share.

subject      which host and which pack; a synthetic pack is made where it is missing
recording    the rows of a real generation, at the pack's site
replay       a monitor, or the baseline, fed with recorded rows: what each token cost, what was seen
trials       variants that take turns, each run compared with its reference
generations  whole generations, watched and not
rows         runs as rows of a table
sweep        a whole report of the kind: variants replayed, some of them in whole generations too
theirs       the reference's tables, as data
twins        a table of the reference and ours beside it
page         a sweep's report as Markdown, with its picture
prewarming   cold starts with pre-warming and without; overlap, verdict and prewarming_page beside it
loading      ways to read families
one_row, many_rows, all_lenses    scoring where everything is in memory; timings is what they share
requirements                      what was asked for, held against what was found
"""
