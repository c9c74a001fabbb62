"""Instance masks as run lengths, so that no array of all of them is needed."""
