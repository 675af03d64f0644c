"""A study's patients at a site: loaded, checked, counted."""
