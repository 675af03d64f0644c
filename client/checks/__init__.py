"""`wardround-site check`: each check passes, or says what to do."""
