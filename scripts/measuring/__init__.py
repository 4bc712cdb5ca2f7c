"""Measuring time so that a number counts: turns, floors, summaries, tests. Knows nothing about lenses or hosts.

samples     a summary of some numbers: n, median, mean, std, p95, p99, min, max, spread
rounds      named variants that take turns, round by round, collector off
floor       how fast this machine reads memory, sampled while other things are measured
disk        how fast it reads a file that is not in the page cache
idle        what the machine does to a loop that needs nothing: the control for a tail
comparing   ratios with intervals, and win, noise or regression by a proper test
lengths     fixed cost and cost an item, from runs of two lengths
tables      summaries as Markdown
"""
