"""One DICOM object's pixels: decoded, windowed, searched for text."""
