"""The boards that there are, whose they are, and what can be seen of them. Listing them and finding that one can't be
reached needs this room only, and nothing in it takes long to import."""
