"""Fuzz targets and what runs them."""
