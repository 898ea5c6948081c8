"""Photos that must go: taken down, erased from the store, asked after again at their hosts."""
