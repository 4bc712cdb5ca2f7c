"""The small host: its recipe, its corpus, and the models that only count beside it."""
