"""What every room stands on, without torch: errors, files, processes, params, variants."""
