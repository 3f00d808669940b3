"""FinCompress: make a fine-tuned transformer text classifier small and fast enough for a CPU."""
