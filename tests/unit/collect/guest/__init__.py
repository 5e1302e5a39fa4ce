"""Images of guests: made here byte by byte, with the signatures that their projects publish."""
