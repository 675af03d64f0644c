-- Hospital stays, results and arrests of every patient, out of a FHIR R4 export.
-- include fhir/intensive.sql
observed AS (  -- a result once, however many codings it has; of a day without a time, known after it
  SELECT o.patient, m.name, m.display, o.value, coalesce(o.code_of_unit, o.unit) AS unit,
    coalesce(instant(o.at_time), CAST(calendar_day(o.at_time) + 1 AS TIMESTAMPTZ)) AS at_time
  FROM observation o JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  WHERE o.value IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY o.id, m.name, o.value ORDER BY m.display) = 1
),
arrested AS (
  SELECT c.patient, coalesce(instant(c.at_time), CAST(calendar_day(c.at_time) AS TIMESTAMPTZ))
    AS at_time
  FROM (SELECT patient, system, code, at_time FROM condition
    UNION ALL SELECT patient, system, code, at_time FROM treatment) c
  JOIN meaning m ON m.code_id = c.system || ' ' || c.code
  WHERE m.name = 'cardiac_arrest'
),
