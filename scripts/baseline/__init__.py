"""The system to be held against: one torch module per lens, each a file of its own, scored one at a time.

It is slow in the way that such systems are, and not in any other: nothing here waits, copies or initialises for show.

    module   one lens as a `torch.nn.Module`
    files    the per-lens files of a pack
    system   the walk, its cache of modules, its clock
    ways     other ways to score many lenses in plain torch, stacked or compiled
    server   a host over the network that keeps nothing between two tokens
"""
