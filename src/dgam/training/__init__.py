"""Training: the alternating step, its schedule, and checkpoints that lose nothing."""
