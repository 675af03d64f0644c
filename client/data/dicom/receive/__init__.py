"""The C-STORE receiver: what the PACS sends, stored and handed to the index."""
