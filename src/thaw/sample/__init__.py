"""The bundled sample: cats and dogs that thaw draws itself."""
