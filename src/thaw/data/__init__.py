"""From a folder of files to labelled, split, decoded images. Knows no network."""
