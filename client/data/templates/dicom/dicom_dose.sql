-- Radiation dose from the site's imaging index: one row an image, the newest first, so that a patient
-- counts by his newest one. Regions and vendors by how a word begins; no text leaves the view.
WITH named AS (
  SELECT
    *,
    upper(concat_ws(' ', body_part, protocol)) AS part,
    upper(coalesce(manufacturer, '')) AS maker
  FROM images
)
SELECT
  patient,
  modality,
  CASE
    WHEN regexp_matches(part, '\b(HEAD|BRAIN|SKULL|FACE|FACIAL|SINUS|ORBIT|CRANI|NECK|CAROTID|THYROID|LARYNX)') THEN 'head'
    WHEN regexp_matches(part, '\b(CHEST|THORA|LUNG|HEART|CARDIAC|CORONARY|RIB)') THEN 'chest'
    WHEN regexp_matches(part, '\b(ABDOM|LIVER|KIDNEY|PANCREAS|COLON)') THEN 'abdomen'
    WHEN regexp_matches(part, '\b(PELVI|HIP|BLADDER)') THEN 'pelvis'
    WHEN regexp_matches(part, '\b(SPINE|CSPINE|TSPINE|LSPINE|SSPINE|LUMBAR|CERVICAL|SACRUM)') THEN 'spine'
    WHEN regexp_matches(part, '\b(BREAST|MAMMO)') THEN 'breast'
    WHEN regexp_matches(part, '\b(EXTREMITY|ARM|HAND|FINGER|WRIST|ELBOW|SHOULDER|LEG|KNEE|ANKLE|FOOT|TOE|FEMUR)') THEN 'extremity'
    WHEN trim(part) <> '' THEN 'other'
  END AS region,
  CASE
    WHEN regexp_matches(maker, '\b(GE\b|GENERAL ELECTRIC)') THEN 'GE'
    WHEN regexp_matches(maker, '\b(SIEMENS)') THEN 'Siemens'
    WHEN regexp_matches(maker, '\b(PHILIPS)') THEN 'Philips'
    WHEN regexp_matches(maker, '\b(CANON|TOSHIBA)') THEN 'Canon'
    WHEN regexp_matches(maker, '\b(FUJI)') THEN 'Fujifilm'
    WHEN regexp_matches(maker, '\b(AGFA)') THEN 'Agfa'
    WHEN regexp_matches(maker, '\b(CARESTREAM|KODAK)') THEN 'Carestream'
    WHEN regexp_matches(maker, '\b(SAMSUNG)') THEN 'Samsung'
    WHEN regexp_matches(maker, '\b(HOLOGIC|LORAD)') THEN 'Hologic'
    WHEN trim(maker) <> '' THEN 'other'
  END AS vendor,
  coalesce(ctdivol_report, ctdivol) AS ctdi_vol,
  dlp,
  exposure,
  kvp
FROM named
WHERE patient IS NOT NULL
ORDER BY study_date DESC NULLS LAST, image
