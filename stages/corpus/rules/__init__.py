"""The web rules as datatrove decides them, over spaCy's words held as integers."""
