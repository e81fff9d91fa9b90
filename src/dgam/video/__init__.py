"""Video files to pictures at a fixed rate."""
