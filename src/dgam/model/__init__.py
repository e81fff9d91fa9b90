"""The networks and the losses of DGAM; torch only, no settings objects."""
