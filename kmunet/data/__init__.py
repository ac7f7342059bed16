"""From a user's archive or folders to packed arrays, splits and batches."""
