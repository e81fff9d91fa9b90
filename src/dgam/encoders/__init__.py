"""Networks that turn pictures into one vector a snippet, and where their weights come from."""
