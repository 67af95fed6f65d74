"""Self-talk: two LLMs and a workflow graph make a dialogue."""
