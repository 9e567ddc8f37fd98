"""Near-duplicates and repeated paragraphs: sketches, buckets, exact comparison, components."""
