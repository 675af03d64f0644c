"""Prediction at the hospital: a released model scores the patients of this site, for this site."""
