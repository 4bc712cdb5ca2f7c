"""Making a pack: the texts that lenses are trained, judged and given thresholds on, and what becomes of them."""
