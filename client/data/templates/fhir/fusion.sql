-- People, their results and their diagnoses, out of a FHIR R4 export.
WITH people AS (  -- record_number: the identifier of type MR, which the pictures carry too
  SELECT id AS patient, record_number, CASE WHEN gender IN ('female', 'male') THEN gender END AS sex,
    calendar_day(birth_date || CASE length(birth_date) WHEN 4 THEN '-07-01' WHEN 7 THEN '-01'
      ELSE '' END) AS birth
  FROM patient
),
observed AS (
  SELECT o.patient, v.name, o.value, coalesce(o.code_of_unit, o.unit) AS unit,
    coalesce(instant(o.at_time), CAST(calendar_day(o.at_time) AS TIMESTAMPTZ)) AS at_time
  FROM observation o JOIN value_set v ON v.system = o.system AND v.code = o.code
  WHERE o.value IS NOT NULL
),
diagnosed AS (
  SELECT DISTINCT c.patient, v.name, calendar_day(c.at_time) AS day
  FROM condition c
  JOIN value_set v ON (v.system = c.system AND v.code = c.code)
    OR (v.vocabulary = 'ICD10' AND contains(c.system, 'icd-10') AND starts_with(c.code, v.code))
),
