"""The index of a site's images, and the cache of their pixels."""
