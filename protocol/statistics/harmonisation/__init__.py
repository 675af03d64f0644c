"""A harmonisation report: how far sites lie apart, column by column."""
