"""Duologue: training dialogues for task-oriented agents, by self-talk along workflows."""
