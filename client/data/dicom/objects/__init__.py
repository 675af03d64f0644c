"""One DICOM object: its header, which attributes are kept, and under which pseudonym."""
