-- People, their results and their diagnoses, out of a FHIR R4 export.
WITH people AS (
  SELECT id AS patient, CASE WHEN gender IN ('female', 'male') THEN gender END AS sex,
    calendar_day(birth_date || CASE length(birth_date) WHEN 4 THEN '-07-01' WHEN 7 THEN '-01'
      ELSE '' END) AS birth
  FROM patient
),
numbered AS (  -- identifiers of type MR, which the pictures carry too
  SELECT patient, record_number FROM patient_number
),
coding AS (
  SELECT system, code, count(*) AS times FROM (
    SELECT system, code FROM condition UNION ALL SELECT system, code FROM observation
  ) GROUP BY ALL
),
-- include fhir/meaning.sql
observed AS (  -- a result once, however many codings it has
  SELECT o.patient, m.name, m.display, o.value, coalesce(o.code_of_unit, o.unit) AS unit,
    coalesce(instant(o.at_time), CAST(calendar_day(o.at_time) AS TIMESTAMPTZ)) AS at_time
  FROM observation o JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  WHERE o.value IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY o.id, m.name, o.value ORDER BY m.display) = 1
),
diagnosed AS (
  SELECT DISTINCT c.patient, m.name, calendar_day(c.at_time) AS day
  FROM condition c JOIN meaning m ON m.code_id = c.system || ' ' || c.code
),
