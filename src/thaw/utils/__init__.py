"""What every package may use; the list of its modules is closed."""
