"""Parts of `ledger.py`: variants of one watched generation, and what is said of each.

variants         the rows of the ledger, each by what it changes
fused            a host whose queries, keys and values come out of one product
compiled         a host whose blocks are compiled
one_at_a_time    a monitor that scores one module at a time
agreement        whether two runs saw the same, exactly or as far as the host itself agrees
timing           all variants in turns, at two lengths, compared in every run
rows             samples as rows: means, difference from the baseline, verdict, fixed and per-token cost
"""
