"""From files of documents to clean shards, step by step, resumable, with every number accounted for."""
