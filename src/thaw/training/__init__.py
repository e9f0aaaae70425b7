"""Features, phases, checkpoints: from images to a trained model."""
