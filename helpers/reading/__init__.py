"""Files that come from outside: pictures, weights, shards. None is trusted, and none can run code."""
