"""Parts of `bench.py`: a few ratios and counters that a change of the code should not make worse unseen.

ratios      a ratio of two times, with the noise that an A/A pair shows
packs       random packs of the reference's shape
scoring     the bank on one row and on a prompt, against the memory floor and one lens at a time
reading     families from disk and from the page cache, against the disk and the memory
watching    the travelling pack on its host: what its walk adds, and every counter that must move
committed   this run beside the committed one
"""
