"""A trial: actions of a camera or a stream, with a stated delay."""
