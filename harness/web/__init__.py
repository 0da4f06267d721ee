"""Pages over the history, for a lab's wall and for one person: served to browsers, or exported as files."""
