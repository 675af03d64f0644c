-- Hospital stays and what happened in them, out of a FHIR R4 export.
WITH RECURSIVE
-- include fhir/segments.sql
segment AS (FROM hospital_segment),
-- include stays.sql
about_visit AS (  -- Coverage is not part of a usual export: map your own
  SELECT id AS visit, CAST(NULL AS VARCHAR) AS payer, CAST(NULL AS VARCHAR) AS specialty_name
  FROM encounter
),
planned_visit AS (  -- with a procedure that is planned by its nature
  SELECT DISTINCT t.encounter AS visit FROM treatment t
  JOIN value_set v ON v.name = 'planned_readmission' AND v.system = t.system AND v.code = t.code
),
diagnosis AS (
  SELECT c.encounter AS visit, CASE WHEN contains(c.system, 'icd-10') THEN c.code END AS icd10,
    c.code, c.rank, c.system || c.code AS place,
    EXISTS (SELECT 1 FROM value_set v WHERE v.name = 'diabetes' AND ((v.system = c.system
      AND v.code = c.code) OR (v.vocabulary = 'ICD10' AND contains(c.system, 'icd-10')
      AND starts_with(c.code, v.code)))) AS diabetes
  FROM condition c WHERE c.encounter IS NOT NULL
),
treated AS (
  SELECT DISTINCT t.encounter AS visit, t.at_time, t.system, t.code FROM treatment t
  WHERE t.encounter IS NOT NULL
),
tested AS (
  SELECT o.encounter AS visit, v.name, o.value, coalesce(o.code_of_unit, o.unit) AS unit
  FROM observation o
  LEFT JOIN value_set v ON v.system = o.system AND v.code = o.code
    AND v.name IN ('glucose', 'hba1c')
  WHERE o.encounter IS NOT NULL
),
drug AS (
  SELECT m.patient, m.encounter AS visit, calendar_day(m.at_time) AS at_time,
    m.id AS prescription, any_value(coalesce(m.text, m.display, m.code)) AS product,
    string_agg(DISTINCT lower(coalesce(m.display, m.text)), ' / ') AS ingredients
  FROM medication m GROUP BY m.patient, m.encounter, m.at_time, m.id
),
