"""Ways of making lenses, compared on validation synsets."""
