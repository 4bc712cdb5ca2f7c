"""Parts of `make_synthetic_pack.py`: a tree of the reference's shape, random lenses, the states that scale them."""
