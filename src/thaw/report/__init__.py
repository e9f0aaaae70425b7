"""Numbers, figures and words that people read."""
