"""Images of any size: read, predicted on and written by parts."""
