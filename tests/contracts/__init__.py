"""Examples of the files between phases, built from their contracts: `example()` of each, with changes by keyword."""
