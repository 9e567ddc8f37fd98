"""One page: its main text by four extractors, its links, licence and signals, worked on in a sandbox."""
