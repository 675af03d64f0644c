-- The first stay in intensive care of every adult, out of a FHIR R4 export.
WITH RECURSIVE
-- include fhir/segments.sql
icu AS (
  SELECT DISTINCT m.* FROM moment m
  JOIN encounter_code c ON c.encounter = m.id
  JOIN value_set v ON v.name = 'icu_encounter' AND v.system = c.system AND v.code = c.code
  WHERE m.started IS NOT NULL
),
segment AS (
  FROM hospital_segment
  UNION ALL BY NAME
  SELECT id AS visit, patient, 'icu' AS kind, earliest_day(started) AS started_earliest,
    latest_day(started) AS started_latest, instant(started) AS started_at,
    calendar_day(ended) AS ended_on, instant(ended) AS ended_at,
    coalesce(disposition = 'exp', false) AS left_dead
  FROM icu
),
-- include stays.sql
-- include icu_stays.sql
observed AS (
  SELECT s.patient, v.name, o.value, coalesce(o.code_of_unit, o.unit) AS unit,
    coalesce(instant(o.at_time), CASE WHEN calendar_day(o.at_time) = s.day THEN s.start END)
      AS at_time  -- without a time of the day of admission: made then
  FROM observation o
  JOIN value_set v ON v.system = o.system AND v.code = o.code
  JOIN stay s ON s.patient = o.patient
  WHERE o.value IS NOT NULL
),
diagnosed AS (
  SELECT DISTINCT s.patient, v.name, coalesce(instant(c.at_time),
    CAST(latest_day(c.at_time) AS TIMESTAMPTZ)) AS at_time
  FROM condition c
  JOIN value_set v ON (v.system = c.system AND v.code = c.code)
    OR (v.vocabulary = 'ICD10' AND contains(c.system, 'icd-10') AND starts_with(c.code, v.code))
  JOIN stay s ON s.patient = c.patient
),
treated AS (
  SELECT DISTINCT s.patient, v.name, coalesce(instant(t.at_time),
    CAST(calendar_day(t.at_time) AS TIMESTAMPTZ)) AS at_time
  FROM treatment t
  JOIN value_set v ON v.system = t.system AND v.code = t.code
  JOIN stay s ON s.patient = t.patient
),
