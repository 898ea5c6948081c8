"""Takedown: photos hidden by tombstones, erased from the store, and rechecked at their hosts."""
