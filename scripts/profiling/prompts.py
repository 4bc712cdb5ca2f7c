"""The texts that programs measure on where none are given: a long one and a short one."""

PROMPTS = (
    "The dog ran through the forest until it came to a river. On the other side stood an old house with a red door, "
    "and in front of the house sat a woman who was reading a book about the birds of the mountains and the sea.",
    "A computer is a machine that follows instructions. Engineers build it out of metal, glass and electricity.",
)
