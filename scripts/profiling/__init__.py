"""Where the time of a watched generation goes."""
