"""The paper's tables and figure, and experiments of one's own: what is trained, measured and compared."""
