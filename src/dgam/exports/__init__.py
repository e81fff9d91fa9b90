"""Detections in the formats of other tools, and as clips."""
