"""Where and how the arithmetic happens: device, determinism, precision, memory, processes. No networks."""
