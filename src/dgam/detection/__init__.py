"""From attention and TCAM to detections; all but ``localize`` is NumPy alone."""
