-- Frontal chest radiographs with a label by accession number.
-- labels: one row an examination, with the columns accession_number and pneumonia (1, 0 or NULL).
-- A patient's images all enter; one of them is drawn each time the patient is.
SELECT
  images.patient,
  images.image AS radiograph,
  labels.pneumonia
FROM images
JOIN labels ON images.accession = pseudonym(labels.accession_number)
WHERE images.modality IN ('CR', 'DX')
  AND images.view_position IN ('PA', 'AP')
