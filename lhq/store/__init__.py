"""What lies on disk: shards of photos and facts, folders with their name only when complete, verdicts, tombstones."""
