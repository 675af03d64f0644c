"""Where a site's rows come from: files, databases, OMOP, and the session that reads them."""
