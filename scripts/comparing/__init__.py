"""Ways of scoring the same concepts, held against each other: quality, recall, cost, memory."""
