"""The local web page and its HTTP API: a queue of videos, worker processes, and what is served of them."""
