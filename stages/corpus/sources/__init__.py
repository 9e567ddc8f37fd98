"""Where pages come from: archives, files, datasets, downloads; and the bytes and charsets that they come in."""
