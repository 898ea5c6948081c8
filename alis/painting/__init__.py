"""A generator → pictures: panoramas, scenes joined, photographs inverted, films."""
