"""From concepts and texts to a pack: what `phoropter train` does, in the order of `recipe.train_pack`.

corpus      texts, what they are of, and the part (train, validation, held-out) that each belongs to
sources     where texts come from: JSONL, contrast pairs, WordNet; written: by the host itself, from definitions
states      a host over texts, once; shards: the same on disk, resumable, shared among processes (workers)
inputs      which site and pooling: chosen on validation texts
walks       how the pack is to be walked, and what a walk misses
recipe      the order of it all
"""
