"""A new site: its folder, its keys, and how it joins a federation."""
