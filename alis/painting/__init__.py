"""Generator → pictures: panoramas, connected scenes, inverted photographs, videos."""
