"""DICOM: what the PACS sends, indexed, gated and decoded once."""
