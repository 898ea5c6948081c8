"""Files of a store: shards of photos and facts, verdicts, tombstones; files and folders are written atomically."""
