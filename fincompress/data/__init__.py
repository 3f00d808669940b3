"""From files, corpora and the hub to clean splits."""
