"""The live page: tiles of the endless plane by address, and one page that pans over them."""
