-- The first stay in intensive care of every adult, out of a FHIR R4 export.
WITH RECURSIVE
-- include fhir/segments.sql
coding AS (
  SELECT system, code, any_value(display) AS display, count(*) AS times FROM (
    SELECT system, code, display FROM encounter_code
    UNION ALL BY NAME SELECT system, code FROM location_code
    UNION ALL BY NAME SELECT system, code, display FROM condition
    UNION ALL BY NAME SELECT system, code FROM observation
    UNION ALL BY NAME SELECT system, code FROM treatment
  ) GROUP BY ALL
),
-- include fhir/meaning.sql
-- include fhir/intensive.sql
-- include icu_stays.sql
observed AS (  -- a result once, however many codings it has
  SELECT s.patient, m.name, m.display, o.value, coalesce(o.code_of_unit, o.unit) AS unit,
    coalesce(instant(o.at_time), CASE WHEN calendar_day(o.at_time) = s.day THEN s.start END)
      AS at_time  -- without a time of the day of admission: made then
  FROM observation o
  JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  JOIN stay s ON s.patient = o.patient
  WHERE o.value IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY o.id, m.name, o.value ORDER BY m.display) = 1
),
diagnosed AS (
  SELECT DISTINCT s.patient, m.name, coalesce(instant(c.at_time),
    CAST(latest_day(c.at_time) AS TIMESTAMPTZ)) AS at_time
  FROM condition c
  JOIN meaning m ON m.code_id = c.system || ' ' || c.code
  JOIN stay s ON s.patient = c.patient
),
treated AS (
  SELECT DISTINCT s.patient, m.name, coalesce(instant(t.at_time),
    CAST(calendar_day(t.at_time) AS TIMESTAMPTZ)) AS at_time
  FROM treatment t
  JOIN meaning m ON m.code_id = t.system || ' ' || t.code
  JOIN stay s ON s.patient = t.patient
),
