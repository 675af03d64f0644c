"""What a model says of an image, as DICOM has it."""
