"""The live page: tiles of the endless plane by URL, and a page that pans over them."""
