"""How well lenses tell what they are for: scores, controls, verdicts, and what the walk misses."""
