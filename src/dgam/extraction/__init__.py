"""From video files to a feature store: decode, flow and network at once, resumable."""
