-- Appointments that were kept or missed, out of a FHIR R4 export.
WITH people AS (
  SELECT id AS patient, CASE WHEN gender IN ('female', 'male') THEN gender END AS sex,
    calendar_day(birth_date || CASE length(birth_date) WHEN 4 THEN '-07-01' WHEN 7 THEN '-01'
      ELSE '' END) AS birth
  FROM patient
),
booked AS (
  SELECT patient, id AS appointment, started, made, status = 'noshow' AS missed FROM appointment
),
