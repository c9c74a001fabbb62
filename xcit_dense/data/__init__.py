"""People's own data: from a folder to a config, and what may be wrong with it."""
