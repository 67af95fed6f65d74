"""One module for each way to ask a server for a chat completion."""
