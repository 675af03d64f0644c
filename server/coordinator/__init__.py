"""The coordinator as a service: its studies, its control API, its folder."""
