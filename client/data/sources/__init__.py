"""Where a site's rows come from, and the session that reads them."""
