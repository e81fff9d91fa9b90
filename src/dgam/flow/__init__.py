"""TV-L1 optical flow, batched."""
